"""The buyer's own orders."""

from __future__ import annotations

import uuid

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from inventory.models import Order, Payment
from shop.buyers import identified
from shop.refusals import wants_json


@require_safe
@identified
def order_list(request: HttpRequest, buyer: str) -> HttpResponse:
    """List the buyer's own orders."""
    orders = Order.objects.filter(buyer=buyer).select_related("product").with_state()
    return render(request, "shop/order_list.html", {"orders": orders})


@require_safe
@identified
def order_page(request: HttpRequest, buyer: str, reference: uuid.UUID) -> HttpResponse:
    """Show one of the buyer's own orders; anyone else's is not found."""
    return show_order(request, find_order(buyer, reference))


def find_order(buyer: str, reference: uuid.UUID) -> Order:
    """Find one of the buyer's own orders, as it is now. Raises Http404 for any other."""
    orders = Order.objects.select_related("product").with_state()
    order: Order = get_object_or_404(orders, reference=reference, buyer=buyer)
    return order


def show_order(
    request: HttpRequest, order: Order, *, refusal: str = "", status: int = 200
) -> HttpResponse:
    """Answer with an order: what it is now, and what its buyer can do next."""
    if wants_json(request):
        response: HttpResponse = JsonResponse(_facts(order))
    else:
        context = {
            "order": order,
            "refusal": refusal,
            "declined": request.GET.get("payment") == "declined",
            "payment": uuid.uuid4(),
            "refund_due": refund_due(order),
        }
        response = render(request, "shop/order.html", context, status=status)
    patch_vary_headers(response, ["Accept"])
    return response


def _facts(order: Order) -> dict[str, object]:
    return {
        "order": str(order.reference),
        "status": order.state,
        "product": order.product.slug,
        "quantity": order.quantity,
        "total": str(order.total),
        "created_at": order.created_at.isoformat(),
        "expires_at": order.expires_at and order.expires_at.isoformat(),
        "now": order.now.isoformat(),
        "refund_due": refund_due(order),
    }


def refund_due(order: Order) -> bool:
    """Whether money of the buyer's is to be given back; only what was held can have been paid."""
    due = order.payments.filter(status=Payment.Status.REFUND_DUE)
    return order.expires_at is not None and due.exists()
