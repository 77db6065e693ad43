"""The one service behind every purchase."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.core.cache import caches
from django.utils import timezone
from redis.exceptions import RedisError

from inventory import counter, ledger, strategies
from inventory.counter import Ticket
from inventory.errors import (
    InvalidPurchase,
    KeyReused,
    LimitReached,
    NotOpen,
    OutcomeUnknown,
    ProductNotFound,
    Refusal,
    SoldOut,
    StockBusy,
    StrategyUnavailable,
    TicketNotFound,
)
from inventory.ledger import ACCEPTED, PurchaseRequest, Receipt
from inventory.models import Product
from inventory.retries import outage_as
from inventory.sold_out import SoldOutMemory
from inventory.strategies.base import Strategy
from inventory.turnstile import Turnstile

TERMS_CACHE_S = 1
"""A changed price, window or strategy reaches every web process within this."""
MAX_QUANTITY = 100
QUEUE_WAIT_S = 3.0
LONGEST_QUEUE = 200
SOLD_OUT_MEMORY_S = 0.1
"""For at most this long after a restock a buyer may still be told “sold out”."""
_turnstile = Turnstile(longest_queue=LONGEST_QUEUE)
_sold_out = SoldOutMemory(for_s=SOLD_OUT_MEMORY_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class SaleTerms:
    """How a product is sold just now; at most a second old."""

    product_id: int
    price: Decimal
    limit: int | None
    strategy: str
    is_lab: bool
    opens_at: datetime | None
    closes_at: datetime | None

    def check_open(self, now: datetime) -> None:
        """Raise NotOpen outside the sale window."""
        if self.opens_at is not None and now < self.opens_at:
            raise NotOpen(opens_at=self.opens_at)
        if self.closes_at is not None and now >= self.closes_at:
            raise NotOpen(closed_at=self.closes_at)


def purchase(*, slug: str, quantity: int, buyer: str, key: uuid.UUID) -> Receipt:
    """
    Sell `quantity` units to `buyer`, or find what `key` already bought.

    Raises ProductNotFound, InvalidPurchase, KeyReused, StrategyUnavailable,
    NotOpen, SoldOut, LimitReached, StockBusy (nothing sold, safe to retry) or OutcomeUnknown.
    """
    if not 1 <= quantity <= MAX_QUANTITY:
        raise InvalidPurchase(
            field="quantity", problem=f"Quantity must be between 1 and {MAX_QUANTITY}."
        )
    with outage_as(OutcomeUnknown):
        terms = sale_terms(slug)
    request = PurchaseRequest(
        product_id=terms.product_id,
        quantity=quantity,
        buyer=buyer,
        key=key,
        unit_price=terms.price,
        strategy=terms.strategy,
        limit=terms.limit,
    )
    try:
        terms.check_open(timezone.now())
        return _sell(_strategy_for(terms), request)
    except (Refusal, StockBusy, StrategyUnavailable):
        with outage_as(OutcomeUnknown):
            earlier = ledger.find_receipt(request)
        if earlier is None:
            raise
        return earlier


def redeem(*, slug: str, reference: uuid.UUID, buyer: str) -> Receipt:
    """
    Find what became of an accepted purchase: its order, or its ticket while it waits.

    Raises SoldOut, LimitReached or KeyReused when it was refused after all,
    ProductNotFound, TicketNotFound, OutcomeUnknown.
    """
    with outage_as(OutcomeUnknown):
        terms = sale_terms(slug)
        receipt = ledger.receipt_of(reference=reference, buyer=buyer)
    if receipt is not None:
        return receipt
    try:
        ticket = counter.find_ticket(product_id=terms.product_id, reference=reference, buyer=buyer)
    except RedisError as error:
        raise OutcomeUnknown from error
    match ticket:
        case None:
            raise TicketNotFound
        case Ticket(state="sold_out"):
            raise SoldOut(available=0)
        case Ticket(state="limit_reached"):
            raise LimitReached(limit=terms.limit or 0)
        case Ticket(state="key_reused"):
            raise KeyReused
        case Ticket(state="pending"):
            return Receipt(
                order=reference,
                status=ACCEPTED,
                quantity=ticket.quantity,
                stock_version=None,
                available=None,
            )
    _, _, other = ticket.state.partition(":")
    return redeem(slug=slug, reference=uuid.UUID(other), buyer=buyer)


def _sell(strategy: Strategy, request: PurchaseRequest) -> Receipt:
    _sold_out.check(request.product_id, request.quantity)
    with _turn(strategy, request.product_id):
        _sold_out.check(request.product_id, request.quantity)
        as_of = time.monotonic()
        try:
            return strategy.sell(request)
        except SoldOut as refusal:
            _sold_out.remember(request.product_id, refusal.available, as_of=as_of)
            raise


@contextmanager
def _turn(strategy: Strategy, product_id: int) -> Iterator[None]:
    """
    Let one buyer of this process at a time to the row, first come first served.

    Threads that wait here cost nothing; threads that wait for the row slow down the one
    that holds it. Raises StockBusy when the queue is full or the wait too long.
    """
    if not strategy.one_at_a_time:
        yield
        return
    if not _turnstile.enter(product_id, deadline=time.monotonic() + QUEUE_WAIT_S):
        raise StockBusy
    try:
        yield
    finally:
        _turnstile.leave(product_id)


def _strategy_for(terms: SaleTerms) -> Strategy:
    strategy = strategies.usable(terms.strategy)
    if strategy.lab_only and not terms.is_lab:
        raise StrategyUnavailable(strategy=terms.strategy, reason="only lab products are sold so")
    return strategy


def sale_terms(slug: str) -> SaleTerms:
    """
    Read a product's settings, from this process's memory where they are fresh.

    Raises ProductNotFound.
    """
    cache = caches["process"]
    terms: SaleTerms | None = cache.get(slug)
    if terms is None:
        terms = _read_terms(slug)
        cache.set(slug, terms, TERMS_CACHE_S)
    return terms


def _read_terms(slug: str) -> SaleTerms:
    product = Product.objects.filter(slug=slug).first()
    if product is None:
        raise ProductNotFound(slug=slug)
    return SaleTerms(
        product_id=product.pk,
        price=product.price,
        limit=product.limit_per_buyer,
        strategy=product.strategy,
        is_lab=product.is_lab,
        opens_at=product.opens_at,
        closes_at=product.closes_at,
    )
