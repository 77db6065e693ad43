"""Orders at the operator's desk."""

from __future__ import annotations

from django.contrib import admin

from inventory.admin.read_only import ReadOnlyAdmin
from inventory.models import Order


@admin.register(Order)
class OrderAdmin(ReadOnlyAdmin):
    """Every sale that was made."""

    list_display = (
        "reference",
        "product",
        "quantity",
        "unit_price",
        "status",
        "buyer",
        "strategy",
        "attempts",
        "created_at",
    )
    list_filter = ("product", "status", "strategy")
    list_select_related = ("product",)
    search_fields = ("reference", "buyer", "key")
