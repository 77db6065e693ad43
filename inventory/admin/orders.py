"""Orders at the operator's desk: found by an index, paged by key, cancelled with a reason."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, path
from django.utils.translation import gettext as _

from inventory.admin.key_pages import key_page
from inventory.admin.order_pages import cancel_page, order_page
from inventory.admin.order_search import OrderSearch
from inventory.admin.pages import names_of, page_context
from inventory.admin.read_only import ReadOnlyAdmin
from inventory.models import Order, Product


@admin.register(Order)
class OrderAdmin(ReadOnlyAdmin):
    """Every sale that was made; the one thing to be done with it is to cancel it."""

    def get_urls(self) -> list[URLPattern]:
        """Add the page that cancels."""
        cancel = self.admin_site.admin_view(partial(cancel_page, self))
        address = path("<uuid:reference>/cancel/", cancel, name="inventory_order_cancel")
        return [address, *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show a page of the orders searched for."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        products = dict(Product.objects.values_list("pk", "name"))
        search = OrderSearch(request.GET, products=products)
        found = search.found()
        page = key_page(request, found.rows, *found.order, within=found.within)
        names = names_of(order.buyer for order in page.rows)
        rows = [
            (order, products.get(order.product_id), names.get(order.buyer, order.buyer))
            for order in page.rows
        ]
        context = page_context(self, request, _("Orders"), search=search, page=page, rows=rows)
        status = 200 if search.is_valid() else 400
        return render(request, "inventory/desk_order_list.html", context, status=status)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show one order and all that happened to it."""
        if request.method == "POST" or not self.has_view_permission(request):
            raise PermissionDenied
        return order_page(self, request, object_id)
