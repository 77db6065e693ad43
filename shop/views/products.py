"""What is on sale, and how much of it is left."""

from __future__ import annotations

import uuid

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from inventory.models import Product
from shop import admissions
from shop.buyers import identified


@require_safe
@identified
def product_list(request: HttpRequest, buyer: str) -> HttpResponse:
    """List what is sold, with its stock."""
    now = timezone.now()
    products = Product.objects.for_sale().select_related("stock")
    cards = [(product, product.sale_state(now)) for product in products]
    return render(request, "shop/product_list.html", {"cards": cards})


@require_safe
@identified
def product_page(request: HttpRequest, buyer: str, slug: str) -> HttpResponse:
    """Show one product and its buy form, with a fresh key in it."""
    return show_product(request, slug, key=uuid.uuid4())


@require_safe
def live_stock(request: HttpRequest, slug: str) -> HttpResponse:
    """Tell what the stock row says now."""
    product = get_object_or_404(Product.objects.select_related("stock"), slug=slug)
    state = product.sale_state(timezone.now())
    return JsonResponse({"available": product.available, "state": state})


def show_product(
    request: HttpRequest, slug: str, *, key: uuid.UUID, status: int = 200, refusal: str = ""
) -> HttpResponse:
    """Answer with the product's page, as it is or with why nothing was sold."""
    product = get_object_or_404(Product.objects.select_related("stock"), slug=slug)
    state = product.sale_state(timezone.now())
    context = {"product": product, "state": state, "key": key, "refusal": refusal}
    context["must_queue"] = admissions.must_queue(request, product)
    return render(request, "shop/product.html", context, status=status)
