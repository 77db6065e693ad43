"""What is left of a product, read at most about once a second by each process."""

from __future__ import annotations

import time
from dataclasses import dataclass

from django.http import Http404

from inventory.models import Product

KEPT_S = 1.0
"""Whoever only looks sees a count at most this old; buying reads the stock row itself."""
STALE_S = 2.0


@dataclass(slots=True)
class _Known:
    product: Product
    renew_at: float
    stale_at: float


_known: dict[str, _Known] = {}


def product_with_stock(slug: str) -> Product:
    """
    The product and its stock row, from memory where that is fresh. Raises Http404.

    In a crowd one caller reads anew and the others go on with what is known: a thousand
    who watch do not ask the database at once.
    """
    known = _known.get(slug)
    if known is not None and time.monotonic() < known.renew_at:
        return known.product
    if known is not None:
        known.renew_at = known.stale_at
    return _read(slug)


def find_product(slug: str) -> Product:
    """Read the product and its stock row. Raises Http404, also for “LAMP” where “lamp” is meant."""
    product = Product.objects.select_related("stock").filter(slug=slug).first()
    if product is None or product.slug != slug:
        raise Http404
    return product


def _read(slug: str) -> Product:
    read_at = time.monotonic()
    try:
        product = find_product(slug)
    except Http404:
        _known.pop(slug, None)
        raise
    _known[slug] = _Known(product, read_at + KEPT_S, read_at + STALE_S)
    return product


def forget() -> None:
    """Read everything anew from here on."""
    _known.clear()
