"""The ledger at the operator's desk."""

from __future__ import annotations

from django.contrib import admin

from inventory.admin.read_only import ReadOnlyAdmin
from inventory.models import Movement


@admin.register(Movement)
class MovementAdmin(ReadOnlyAdmin):
    """Every write of a stock row."""

    list_display = (
        "product",
        "version",
        "kind",
        "delta",
        "available_after",
        "reason",
        "actor",
        "order",
        "created_at",
    )
    list_filter = ("product", "kind")
    list_select_related = ("product", "order")
    search_fields = ("reason", "actor")
