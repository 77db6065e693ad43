"""The buyer's own orders."""

from __future__ import annotations

import uuid

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from inventory.models import Order, Payment
from shop.buyers import identified, owners
from shop.joining import join_guest
from shop.refusals import wants_json

ORDERS_ON_A_PAGE = 20


@require_safe
@identified
def order_list(request: HttpRequest, buyer: str) -> HttpResponse:
    """List the buyer's own orders, the newest first."""
    own = Order.objects.filter(buyer__in=owners(request, buyer)).select_related("product")
    paginator = Paginator(own.with_state().order_by("-created_at", "pk"), ORDERS_ON_A_PAGE)
    page = paginator.get_page(request.GET.get("page"))
    return render(request, "shop/order_list.html", {"orders": page})


@require_safe
@identified
def order_page(request: HttpRequest, buyer: str, reference: uuid.UUID) -> HttpResponse:
    """Show one of the buyer's own orders; anyone else's is not found."""
    return show_order(request, find_order(request, buyer, reference))


def find_order(request: HttpRequest, buyer: str, reference: uuid.UUID) -> Order:
    """
    Find one of the buyer's own orders, as it is now. Raises Http404 for any other.

    One that a member's browser bought as a guest joins the account first.
    """
    orders = Order.objects.select_related("product").with_state()
    own = {"reference": reference, "buyer__in": owners(request, buyer)}
    order: Order = get_object_or_404(orders, **own)
    if order.buyer != buyer and request.user.is_authenticated:
        join_guest(request, request.user)
        order = get_object_or_404(orders, **own)
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
