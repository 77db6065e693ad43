"""The buyer's own orders."""

from __future__ import annotations

import uuid

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from inventory.models import Order
from shop.buyers import identified


@require_safe
@identified
def order_list(request: HttpRequest, buyer: str) -> HttpResponse:
    """List the buyer's own orders."""
    orders = Order.objects.filter(buyer=buyer).select_related("product")
    return render(request, "shop/order_list.html", {"orders": orders})


@require_safe
@identified
def order_page(request: HttpRequest, buyer: str, reference: uuid.UUID) -> HttpResponse:
    """Show one of the buyer's own orders; anyone else's is not found."""
    orders = Order.objects.select_related("product")
    order = get_object_or_404(orders, reference=reference, buyer=buyer)
    return render(request, "shop/order.html", {"order": order})
