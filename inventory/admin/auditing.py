"""The audit of one product, now: as much of its books as a page can wait for."""

from __future__ import annotations

import time
from dataclasses import dataclass

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _

from inventory.admin.pages import count_of, find_product, page_context, require
from inventory.audit import Books, Finding, audit, read_books
from inventory.books import Snapshot
from inventory.errors import StockBusy
from inventory.models import Movement, Product
from inventory.retries import outage_as

MOST_MOVEMENTS = 20_000
"""A second or two of work; `manage.py audit_stock` compares all."""
MOST_FINDINGS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """What was compared, and what did not fit."""

    movements: int
    orders: int
    findings: list[Finding]
    more: int
    took_s: float


def audit_page(
    model_admin: admin.ModelAdmin, request: HttpRequest, product_id: int
) -> HttpResponse:
    """Say how much would be compared (GET); compare it (POST)."""
    require(request, "inventory.correct_stock")
    product = find_product(product_id)
    since = _begin_at(product)
    context = page_context(model_admin, request, str(_("Audit")), product=product, tab="audit")
    if request.method == "POST":
        try:
            with outage_as(StockBusy):
                context["audited"] = _audit(product, since)
        except StockBusy:
            context["busy"] = True
    now = count_of(product)
    context |= {"since": since, "movements": now.version - since.version, "now": now}
    return render(request, "inventory/product_audit.html", context)


def _begin_at(product: Product) -> Snapshot:
    """The beginning, or where the last MOST_MOVEMENTS begin; the movement there is trusted."""
    start = count_of(product).version - MOST_MOVEMENTS
    if start <= 0:
        return Snapshot()
    movement = Movement.objects.filter(product_id=product.pk, version__lte=start)
    opening = movement.order_by("-version").first()
    if opening is None:
        return Snapshot()
    return Snapshot(
        available=opening.available_after, version=opening.version, taken_at=opening.created_at
    )


def _audit(product: Product, since: Snapshot) -> Audited:
    began = time.monotonic()
    books: Books = read_books(product.pk, since=since)
    findings = audit(books)
    return Audited(
        movements=len(books.movements),
        orders=len(books.orders) + len(books.earlier_orders),
        findings=findings[:MOST_FINDINGS],
        more=max(0, len(findings) - MOST_FINDINGS),
        took_s=time.monotonic() - began,
    )
