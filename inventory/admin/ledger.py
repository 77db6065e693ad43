"""The ledger of one product: every write of its stock row, by kind and by day."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from inventory.admin import exports
from inventory.admin.key_pages import key_page
from inventory.admin.pages import count_of, find_product, names_of, page_context, require
from inventory.books import CLOCKS_DIFFER
from inventory.models import Movement, Product

SAMPLES = 500
"""Movements looked at to find those of a day."""
DAYS = [MinValueValidator(date(2000, 1, 1)), MaxValueValidator(date(2199, 12, 31))]


class DayInput(forms.DateInput):
    """The browser's own calendar."""

    input_type = "date"


class LedgerFilter(forms.Form):
    """Which movements to show."""

    kind = forms.ChoiceField(
        label=_("Kind"),
        required=False,
        choices=[("", _("Every kind")), *Movement.Kind.choices],
    )
    since = forms.DateField(
        label=_("From"), required=False, widget=DayInput(format="%Y-%m-%d"), validators=DAYS
    )
    until = forms.DateField(
        label=_("To, with that day"),
        required=False,
        widget=DayInput(format="%Y-%m-%d"),
        validators=DAYS,
    )

    def clean(self) -> None:
        """Refuse an end before the beginning."""
        since, until = self.cleaned_data.get("since"), self.cleaned_data.get("until")
        if since and until and until < since:
            self.add_error("until", _("The last day is before the first."))

    def within(self, product: Product) -> dict[str, Any]:
        """The columns before the version in the index that serves the selection."""
        kind = self.cleaned_data.get("kind")
        return {"product_id": product.pk, **({"kind": kind} if kind else {})}

    def rows(self, product: Product) -> QuerySet[Movement]:
        """What is to be left out of them, by the day."""
        if not self.is_valid():
            return Movement.objects.none()
        return _on_days(product, self.cleaned_data["since"], self.cleaned_data["until"])


def ledger_page(
    model_admin: admin.ModelAdmin, request: HttpRequest, product_id: int
) -> HttpResponse:
    """Show a page of the ledger, the newest first."""
    require(request, "inventory.view_movement")
    product = find_product(product_id)
    chosen = LedgerFilter(request.GET)
    rows = chosen.rows(product)
    page = key_page(request, rows, "-version", within=chosen.within(product))
    context = page_context(
        model_admin,
        request,
        str(_("Ledger")),
        product=product,
        tab="ledger",
        filter=chosen,
        page=page,
        rows=with_names(page.rows),
    )
    status = 200 if chosen.is_valid() else 400
    return render(request, "inventory/product_ledger.html", context, status=status)


def ledger_export(
    model_admin: admin.ModelAdmin, request: HttpRequest, product_id: int, form: str
) -> HttpResponseBase:
    """Stream the chosen movements, the oldest first, as they are when it begins."""
    require(request, "inventory.view_movement")
    product = find_product(product_id)
    chosen = LedgerFilter(request.GET)
    if not chosen.is_valid():
        return ledger_page(model_admin, request, product_id)
    rows = chosen.rows(product).filter(version__lte=count_of(product).version)
    return exports.FORMS[form](rows, chosen.within(product), name=f"ledger-{product.slug}")


def with_names(rows: list[Movement]) -> list[tuple[Movement, str]]:
    """Give each movement the name of who wrote it."""
    names = names_of(row.actor for row in rows)
    return [(row, names.get(row.actor, row.actor)) for row in rows]


def _on_days(product: Product, since: date | None, until: date | None) -> QuerySet[Movement]:
    rows = Movement.objects.all()
    begin = _midnight(since) if since else None
    end = _midnight(until) + timedelta(days=1) if until else None
    if begin or end:
        first, last = _versions_between(product, begin, end)
        rows = rows.filter(version__gte=first, version__lte=last)
    if begin:
        rows = rows.filter(created_at__gte=begin)
    return rows.filter(created_at__lt=end) if end else rows


def _versions_between(
    product: Product, begin: datetime | None, end: datetime | None
) -> tuple[int, int]:
    """
    Bound the versions written in a time, without an index of moments.

    Versions rise with time, but for what the clocks of web processes differ: a sample of
    them says between which the time lies.
    """
    top = count_of(product).version
    step = max(1, top // SAMPLES)
    sample = Movement.objects.filter(
        product_id=product.pk, version__in=range(step, top + 1, step)
    ).order_by("version")
    moments = list(sample.values_list("version", "created_at"))
    since = [v for v, at in moments if begin is None or at >= begin - CLOCKS_DIFFER]
    until = [v for v, at in moments if end is None or at < end + CLOCKS_DIFFER]
    return min(since, default=top) - step, max(until, default=0) + step


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))
