"""Products at the operator's desk; their stock is moved only through the ledger."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path
from django.utils.translation import gettext_lazy as _

from inventory import adjustments
from inventory.admin.auditing import audit_page
from inventory.admin.bulk import BulkStockActions
from inventory.admin.corrections import AdjustOneForm, ResetOneForm, change_stock
from inventory.admin.history import history_of
from inventory.admin.ledger import ledger_export, ledger_page
from inventory.admin.pages import count_of
from inventory.admin.product_form import ProductForm
from inventory.models import Product


@admin.register(Product)
class ProductAdmin(BulkStockActions):
    """Products with their stock; the counts are read-only."""

    form = ProductForm
    change_form_template = "inventory/product_change.html"
    list_display = ("name", "price", "strategy", "available", "version", "opens_at", "closes_at")
    list_filter = ("is_lab", "strategy")
    list_select_related = ("stock",)
    search_fields = ("name", "slug")
    prepopulated_fields = {"slug": ("name",)}
    readonly_fields = ("available", "version")

    @admin.display(description=_("available"), ordering="stock__available")
    def available(self, product: Product) -> int:
        """Units left to sell."""
        return product.available

    @admin.display(description=_("version"), ordering="stock__version")
    def version(self, product: Product) -> int:
        """How often the stock row was written."""
        return count_of(product).version

    def get_queryset(self, request: HttpRequest) -> QuerySet[Product]:
        """Read the stock row along."""
        return super().get_queryset(request).select_related("stock")

    def get_urls(self) -> list[URLPattern]:
        """Add the pages of a product's stock."""
        pages: dict[str, Callable[..., HttpResponseBase]] = {
            "ledger": ledger_page,
            "ledger.csv": partial(ledger_export, form="csv"),
            "ledger.json": partial(ledger_export, form="json"),
            "adjust": partial(change_stock, form_class=AdjustOneForm),
            "reset": partial(change_stock, form_class=ResetOneForm),
            "audit": audit_page,
        }
        ours = [
            path(
                f"<int:product_id>/{name}" + ("" if "." in name else "/"),
                self.admin_site.admin_view(partial(view, self)),
                name=f"inventory_product_{name.replace('.', '_')}",
            )
            for name, view in pages.items()
        ]
        return [*ours, *super().get_urls()]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the stock and its history above the settings."""
        product = self.get_object(request, object_id)
        more: dict[str, Any] = {"tab": "product", "product": product}
        if product is not None and request.user.has_perm("inventory.view_movement"):
            more |= {"now": count_of(product), "history": history_of(product)}
        return super().change_view(request, object_id, form_url, (extra_context or {}) | more)

    def has_delete_permission(self, request: HttpRequest, obj: Product | None = None) -> bool:
        """A product's books are kept; close its sale instead."""
        return False

    def construct_change_message(
        self, request: HttpRequest, form: forms.Form, formsets: Any, add: bool = False
    ) -> Any:
        """Record each edited field with its old and new value."""
        edits = form.edits() if isinstance(form, ProductForm) and not add else ""
        return edits or super().construct_change_message(request, form, formsets, add)

    def save_model(
        self, request: HttpRequest, obj: Product, form: forms.ModelForm[Product], change: bool
    ) -> None:
        """Write only what was edited, and give a new product its stock row."""
        obj.save(update_fields=form.changed_data if change else None)
        adjustments.open_stock(product_id=obj.pk)
