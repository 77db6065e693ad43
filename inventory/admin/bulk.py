"""Stock changed by hand for several products at once, from their list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _

from inventory import adjustments
from inventory.admin.corrections import in_words
from inventory.admin.pages import actor_of
from inventory.admin.stock_forms import AdjustmentForm, BulkResetForm
from inventory.errors import InventoryError, StockBusy
from inventory.models import Movement, Product
from inventory.retries import outage_as

Write = Callable[[Product, dict[str, Any]], Movement]


class BulkStockActions(admin.ModelAdmin):
    """The list's actions: each asks once, then writes one movement per product."""

    actions = ("adjust_stock", "reset_stock")

    def has_correct_stock_permission(self, request: HttpRequest) -> bool:
        """Whether someone may change stock by hand."""
        return request.user.has_perm("inventory.correct_stock")

    @admin.action(description=_("Restock or correct by a number…"), permissions=["correct_stock"])
    def adjust_stock(
        self, request: HttpRequest, queryset: QuerySet[Product]
    ) -> HttpResponse | None:
        """Ask by how much and why."""

        def adjust(product: Product, answers: dict[str, Any]) -> Movement:
            return adjustments.adjust(
                product_id=product.pk,
                delta=answers["delta"],
                kind=Movement.Kind(answers["kind"]),
                reason=answers["reason"],
                actor=actor_of(request),
            )

        return self._ask_and_write(request, queryset, "adjust_stock", AdjustmentForm, adjust)

    @admin.action(description=_("Reset to a number…"), permissions=["correct_stock"])
    def reset_stock(self, request: HttpRequest, queryset: QuerySet[Product]) -> HttpResponse | None:
        """Ask to which number and why."""

        def reset(product: Product, answers: dict[str, Any]) -> Movement:
            [movement] = adjustments.reset(
                slugs=[product.slug],
                units=answers["units"],
                reason=answers["reason"],
                actor=actor_of(request),
            )
            return movement

        return self._ask_and_write(request, queryset, "reset_stock", BulkResetForm, reset)

    def _ask_and_write(
        self,
        request: HttpRequest,
        products: QuerySet[Product],
        action: str,
        form_class: type[forms.Form],
        write: Write,
    ) -> HttpResponse | None:
        form = form_class(request.POST if "apply" in request.POST else None)
        if not form.is_valid():
            title = dict(self.get_action_choices(request))[action].rstrip("…")
            context = {
                **self.admin_site.each_context(request),
                "title": title,
                "opts": self.model._meta,
                "products": products.select_related("stock"),
                "form": form,
                "action": action,
            }
            return render(request, "inventory/stock_action.html", context)
        for product in products:
            self._write_one(request, product, form.cleaned_data, write)
        return None

    def _write_one(
        self, request: HttpRequest, product: Product, answers: dict[str, Any], write: Write
    ) -> None:
        try:
            with outage_as(StockBusy):
                movement = write(product, answers)
        except InventoryError as error:
            self.message_user(request, f"{product}: {error}", messages.ERROR)
            return
        self.log_change(request, product, in_words(movement, kind=movement.kind))
        said = in_words(movement, kind=movement.get_kind_display())
        self.message_user(request, f"{product}: {said}", messages.SUCCESS)
