"""Products at the operator's desk; their stock is moved only through the ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from inventory import adjustments
from inventory.adjustments import MAX_UNITS
from inventory.errors import InventoryError, StockBusy
from inventory.models import Movement, Product
from inventory.pictures import as_webp
from inventory.retries import outage_as
from inventory.strategies import STRATEGIES

STRATEGY_CHOICES = [(name, f"{strategy.label} ({name})") for name, strategy in STRATEGIES.items()]


class PictureField(forms.ImageField):
    """An upload that is read as a picture of three kinds only, and kept as a small WebP."""

    def to_python(self, data: Any) -> Any:
        """Raises ValidationError for what is no picture, too heavy or too large."""
        upload = forms.FileField.to_python(self, data)
        return None if upload is None else as_webp(upload, size_bytes=upload.size)


class ProductForm(forms.ModelForm):
    """
    A product's settings; its stock is no part of them.

    Each field keeps its first value in the page, so that only what the operator
    edited is written, and not what others changed since the page was opened.
    """

    strategy = forms.ChoiceField(choices=STRATEGY_CHOICES, initial="conditional_update")
    image = PictureField(
        required=False, help_text="JPEG, PNG or WebP, at most 5 MB and 4000 × 4000 pixels."
    )

    class Meta:
        model = Product
        fields = (
            "name",
            "slug",
            "description",
            "price",
            "opens_at",
            "closes_at",
            "limit_per_buyer",
            "hold_minutes",
            "admitted_per_minute",
            "image",
            "strategy",
            "is_lab",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.show_hidden_initial = not isinstance(field, PictureField)


class AdjustmentForm(forms.Form):
    """Units to add or take, and why."""

    delta = forms.IntegerField(
        label="Change by",
        min_value=-MAX_UNITS,
        max_value=MAX_UNITS,
        help_text="Units: +20 adds, -3 takes away. Sales go on meanwhile.",
    )
    kind = forms.ChoiceField(
        choices=[
            (Movement.Kind.RESTOCK, "Restock: units have arrived"),
            (Movement.Kind.CORRECTION, "Correction: the count was wrong"),
        ]
    )
    reason = forms.CharField(max_length=200)


class ResetForm(forms.Form):
    """Units to be available afterwards, why, and that it is meant."""

    units = forms.IntegerField(label="Reset to", min_value=0, max_value=MAX_UNITS)
    reason = forms.CharField(max_length=200)
    confirm = forms.BooleanField(label="Yes, forget the present count")


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    """Products with their stock; the counts are read-only."""

    form = ProductForm
    list_display = ("name", "price", "strategy", "available", "version", "opens_at", "closes_at")
    list_filter = ("is_lab", "strategy")
    list_select_related = ("stock",)
    search_fields = ("name", "slug")
    prepopulated_fields = {"slug": ("name",)}
    readonly_fields = ("available", "version")
    actions = ("adjust_stock", "reset_stock")

    @admin.display(ordering="stock__available")
    def available(self, product: Product) -> int:
        """Units left to sell."""
        return product.available

    @admin.display(ordering="stock__version")
    def version(self, product: Product) -> int:
        """How often the stock row was written."""
        return product.stock.version if hasattr(product, "stock") else 0

    def has_delete_permission(self, request: HttpRequest, obj: Product | None = None) -> bool:
        """A product's books are kept; close its sale instead."""
        return False

    def save_model(
        self, request: HttpRequest, obj: Product, form: forms.ModelForm[Product], change: bool
    ) -> None:
        """Write only what was edited, and give a new product its stock row."""
        obj.save(update_fields=form.changed_data if change else None)
        adjustments.open_stock(product_id=obj.pk)

    @admin.action(description="Restock or correct by a number…", permissions=["change"])
    def adjust_stock(
        self, request: HttpRequest, queryset: QuerySet[Product]
    ) -> HttpResponse | None:
        """Ask by how much and why, then write one movement per product."""

        def adjust(product: Product, answers: dict[str, Any]) -> str:
            adjustments.adjust(
                product_id=product.pk,
                delta=answers["delta"],
                kind=Movement.Kind(answers["kind"]),
                reason=answers["reason"],
                actor=f"user:{request.user.pk}",
            )
            return f"{answers['kind']} {answers['delta']:+d}: {answers['reason']}"

        return self._ask_and_apply(request, queryset, "adjust_stock", AdjustmentForm, adjust)

    @admin.action(description="Reset to a number…", permissions=["change"])
    def reset_stock(self, request: HttpRequest, queryset: QuerySet[Product]) -> HttpResponse | None:
        """Ask to which number and why, then write one movement per product."""

        def reset(product: Product, answers: dict[str, Any]) -> str:
            adjustments.reset(
                slugs=[product.slug],
                units=answers["units"],
                reason=answers["reason"],
                actor=f"user:{request.user.pk}",
            )
            return f"reset to {answers['units']}: {answers['reason']}"

        return self._ask_and_apply(request, queryset, "reset_stock", ResetForm, reset)

    def _ask_and_apply(
        self,
        request: HttpRequest,
        products: QuerySet[Product],
        action: str,
        form_class: type[forms.Form],
        apply: Callable[[Product, dict[str, Any]], str],
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
            try:
                with outage_as(StockBusy):
                    done = apply(product, form.cleaned_data)
            except InventoryError as error:
                self.message_user(request, f"{product}: {error}", messages.ERROR)
            else:
                self.log_change(request, product, done)
                self.message_user(request, f"{product}: {done}", messages.SUCCESS)
        return None
