"""What is left of a product, read at most about once a second by each process."""

from __future__ import annotations

from functools import partial

from django.http import Http404

from inventory.crowds import Remembered
from inventory.models import Product

KEPT_S = 1.0
"""Whoever only looks sees a count at most this old; buying reads the stock row itself."""
STALE_S = 2.0

_known: Remembered[str, Product] = Remembered()
forget = _known.forget


def product_with_stock(slug: str) -> Product:
    """The product and its stock row, from memory where that is fresh. Raises Http404."""
    return _known.fresh(slug) or _read(slug)


def find_product(slug: str) -> Product:
    """Read the product and its stock row. Raises Http404, also for “LAMP” where “lamp” is meant."""
    product = Product.objects.select_related("stock").filter(slug=slug).first()
    if product is None or product.slug != slug:
        raise Http404
    return product


def _read(slug: str) -> Product:
    return _known.read(slug, partial(find_product, slug), renew_s=KEPT_S, stale_s=STALE_S)
