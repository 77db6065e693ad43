"""How products are sold just now, kept in each process for a second."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

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


@dataclass(slots=True)
class _Known:
    terms: SaleTerms
    renew_at: float
    stale_at: float


_known: dict[str, _Known] = {}


def fresh_terms(slug: str) -> SaleTerms | None:
    """
    The terms this process knows, or None where they are to be read.

    In a crowd one caller is sent to read them before they are stale, and the others go on
    with what is known: a thousand buyers do not ask the database at once each second.
    """
    known = _known.get(slug)
    now = time.monotonic()
    if known is None or now >= known.stale_at:
        return None
    if now >= known.renew_at:
        known.renew_at = known.stale_at
        return None
    return known.terms


def sale_terms(slug: str) -> SaleTerms:
    """Say how a product is sold, from memory where that is fresh. Raises ProductNotFound."""
    return fresh_terms(slug) or read_terms(slug)


def read_terms(slug: str) -> SaleTerms:
    """Read a product's settings and keep them. Raises ProductNotFound."""
    read_at = time.monotonic()
    product = Product.objects.filter(slug=slug).first()
    if product is None or product.slug != slug:  # MariaDB finds “lamp” for “LAMP”
        raise ProductNotFound(slug=slug)
    terms = SaleTerms(
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
    _known[slug] = _Known(terms, read_at + RENEW_AFTER_S, read_at + TERMS_CACHE_S)
    return terms


def forget() -> None:
    """Read everything anew from here on."""
    _known.clear()
