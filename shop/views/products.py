"""What is on sale, and how much of it is left."""

from __future__ import annotations

import uuid
from hashlib import blake2s

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.translation import get_language
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_safe

from inventory.models import Product
from shop import admissions
from shop.buyers import identified
from shop.live_stock import find_product, product_with_stock
from shop.refusals import Answer

SaleState = Product.SaleState
LISTED = [SaleState.OPEN, SaleState.OPENS, SaleState.SOLD_OUT, SaleState.ENDED]


@gzip_page
@require_safe
@identified
def product_list(request: HttpRequest, buyer: str) -> HttpResponse:
    """List what is sold, with its stock, each with a fresh key; first what can be bought."""
    now = timezone.now()
    products = Product.objects.for_sale().select_related("stock")
    cards = [(product, product.sale_state(now), uuid.uuid4()) for product in products]
    cards.sort(key=lambda card: LISTED.index(card[1]))
    return render(request, "shop/product_list.html", {"cards": cards, "now": now})


@gzip_page
@require_safe
@identified
def product_page(request: HttpRequest, buyer: str, slug: str) -> HttpResponse:
    """Show one product and its buy form, with a fresh key in it."""
    return show_product(request, slug, key=uuid.uuid4())


@require_safe
def live_stock(request: HttpRequest, slug: str) -> HttpResponse:
    """Tell what the stock row said within the last second, as JSON or as a piece of the page."""
    product = product_with_stock(slug)
    state = product.sale_state(timezone.now())
    piece = request.headers.get("HX-Request") == "true"
    shown = (product.available, state, product.opens_at, piece and get_language())
    tag = f'"{blake2s(repr(shown).encode(), digest_size=8).hexdigest()}"'
    response = get_conditional_response(request, etag=tag)
    if response is None and piece:
        context = {"product": product, "state": state}
        response = HttpResponse(render_to_string("shop/sale_state.html", context))
    elif response is None:
        response = JsonResponse({"available": product.available, "state": state})
    response.headers["ETag"] = tag
    response.headers["Cache-Control"] = "max-age=1"
    patch_vary_headers(response, ["HX-Request", "Cookie"])
    return response


def show_product(
    request: HttpRequest,
    slug: str,
    *,
    key: uuid.UUID,
    answer: Answer | None = None,
    refusal: str = "",
) -> HttpResponse:
    """Answer with the product's page, as it is or with why nothing was sold."""
    product = find_product(slug)
    now = timezone.now()
    context = {
        "product": product,
        "state": product.sale_state(now),
        "key": key,
        "now": now,
        "answer": answer,
        "refusal": refusal,
        "must_queue": admissions.must_queue(request, product),
    }
    return render(request, "shop/product.html", context, status=answer.status if answer else 200)
