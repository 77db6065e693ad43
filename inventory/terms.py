"""How products are sold just now, kept in each process for a second."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial

from inventory.crowds import Remembered
from inventory.errors import NotOpen, ProductNotFound
from inventory.ledger import PurchaseRequest
from inventory.models import Product

TERMS_CACHE_S = 1.0
"""A changed price, window or strategy reaches every web process within this."""
RENEW_AFTER_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SaleTerms:
    """How a product is sold just now; at most a second old."""

    product_id: int
    price: Decimal
    limit: int | None
    hold_minutes: int | None
    strategy: str
    is_lab: bool
    admitted_per_minute: int | None
    """Buyers whom the waiting room lets in each minute; None: there is no waiting room."""
    opens_at: datetime | None
    closes_at: datetime | None

    def check_open(self, now: datetime) -> None:
        """Raise NotOpen outside the sale window."""
        if self.opens_at is not None and now < self.opens_at:
            raise NotOpen(opens_at=self.opens_at)
        if self.closes_at is not None and now >= self.closes_at:
            raise NotOpen(closed_at=self.closes_at)

    def request(self, *, quantity: int, buyer: str, key: uuid.UUID) -> PurchaseRequest:
        """Write down one buyer's wish under these terms."""
        return PurchaseRequest(
            product_id=self.product_id,
            quantity=quantity,
            buyer=buyer,
            key=key,
            unit_price=self.price,
            strategy=self.strategy,
            limit=self.limit,
            hold_minutes=self.hold_minutes,
        )


_known: Remembered[str, SaleTerms] = Remembered()
forget = _known.forget
fresh_terms = _known.fresh
"""The terms of a slug that this process knows, or None where the caller is to read them."""


def sale_terms(slug: str) -> SaleTerms:
    """Say how a product is sold, from memory where that is fresh. Raises ProductNotFound."""
    return fresh_terms(slug) or read_terms(slug)


def read_terms(slug: str) -> SaleTerms:
    """Read a product's settings and keep them. Raises ProductNotFound."""
    return _known.read(slug, partial(_read, slug), renew_s=RENEW_AFTER_S, stale_s=TERMS_CACHE_S)


def _read(slug: str) -> SaleTerms:
    product = Product.objects.filter(slug=slug).first()
    if product is None or product.slug != slug:  # MariaDB finds “lamp” for “LAMP”
        raise ProductNotFound(slug=slug)
    return SaleTerms(
        product_id=product.pk,
        price=product.price,
        limit=product.limit_per_buyer,
        hold_minutes=product.hold_minutes,
        strategy=product.strategy,
        is_lab=product.is_lab,
        admitted_per_minute=product.admitted_per_minute,
        opens_at=product.opens_at,
        closes_at=product.closes_at,
    )
