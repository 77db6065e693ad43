"""The ledger of all products at the operator's desk: the latest writes, wherever they were."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from inventory.admin.key_pages import key_page
from inventory.admin.ledger import with_names
from inventory.admin.pages import page_context
from inventory.admin.read_only import ReadOnlyAdmin
from inventory.models import Movement, Product


@admin.register(Movement)
class MovementAdmin(ReadOnlyAdmin):
    """Every write of a stock row; a product's own ledger has the filters."""

    list_select_related = ("product", "order")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the latest movements of all products, paged by key and never counted."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        page = key_page(request, Movement.objects.all(), "-id")
        names = dict(Product.objects.values_list("pk", "name"))
        rows = [
            (movement, who, names.get(movement.product_id))
            for movement, who in with_names(page.rows)
        ]
        context = page_context(self, request, _("Movements"), page=page, rows=rows)
        context |= {"products": sorted(names.items(), key=lambda pair: pair[1])}
        return render(request, "inventory/movement_list.html", context)
