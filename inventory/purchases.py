"""The one service behind every purchase."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ParamSpec, TypeVar

from django.core.cache import caches
from django.utils import timezone

from inventory import engine, locks, strategies, timings
from inventory.errors import (
    InvalidPurchase,
    NotOpen,
    OutcomeUnknown,
    ProductNotFound,
    Refusal,
    SoldOut,
    StockBusy,
    StrategyUnavailable,
)
from inventory.ledger import PurchaseRequest, Receipt
from inventory.models import Product
from inventory.retries import afind_receipt, find_receipt, outage_as
from inventory.sold_out import SoldOutMemory
from inventory.strategies.base import Strategy
from inventory.threads import NoThreadFree, close_threads, in_thread
from inventory.turnstile import AsyncTurnstile, Turnstile
from inventory.uninterrupted import all_ended

TERMS_CACHE_S = 1
"""A changed price, window or strategy reaches every web process within this."""
MAX_QUANTITY = 100
QUEUE_WAIT_S = 5.0
LONGEST_QUEUE = 1000
SOLD_OUT_MEMORY_S = 0.1
"""For at most this long after a restock a buyer may still be told “sold out”."""
ABREAST = 4
"""How many tasks of one event loop come to the row at a time."""
_turnstile = Turnstile(longest_queue=LONGEST_QUEUE)
_aturnstile = AsyncTurnstile(longest_queue=LONGEST_QUEUE, abreast=ABREAST)
_sold_out = SoldOutMemory(for_s=SOLD_OUT_MEMORY_S)

P = ParamSpec("P")
T = TypeVar("T")


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
        )


def purchase(*, slug: str, quantity: int, buyer: str, key: uuid.UUID) -> Receipt:
    """
    Sell `quantity` units to `buyer`, or find what `key` already bought.

    Raises ProductNotFound, InvalidPurchase, KeyReused, StrategyUnavailable,
    NotOpen, SoldOut, LimitReached, StockBusy (nothing sold, safe to retry) or OutcomeUnknown.
    """
    check_quantity(quantity)
    terms = _sale_terms_or_unknown(slug)
    request = terms.request(quantity=quantity, buyer=buyer, key=key)
    try:
        terms.check_open(timezone.now())
        return _sell(_strategy_for(terms), request)
    except (Refusal, StockBusy, StrategyUnavailable):
        earlier = find_receipt(request)
        if earlier is None:
            raise
        return earlier


async def apurchase(*, slug: str, quantity: int, buyer: str, key: uuid.UUID) -> Receipt:
    """
    See purchase(). What has no asynchronous form runs in a bounded number of threads.

    Cancelled, it leaves either a committed sale or nothing.
    """
    check_quantity(quantity)
    terms = await _asale_terms(slug)
    request = terms.request(quantity=quantity, buyer=buyer, key=key)
    try:
        terms.check_open(timezone.now())
        strategy = _strategy_for(terms)
        if not strategy.has_asell:
            return await _in_thread(purchase, slug=slug, quantity=quantity, buyer=buyer, key=key)
        return await _asell(strategy, request)
    except (Refusal, StockBusy, StrategyUnavailable):
        earlier = await afind_receipt(request)
        if earlier is None:
            raise
        return earlier


async def aclose() -> None:
    """Let the sales under way end, then close this event loop's connections."""
    await all_ended()
    await engine.close()
    await locks.close()
    await close_threads()


def check_quantity(quantity: int) -> None:
    """Raise InvalidPurchase for a number of units nobody may buy at once."""
    if not 1 <= quantity <= MAX_QUANTITY:
        raise InvalidPurchase(
            field="quantity", problem=f"Quantity must be between 1 and {MAX_QUANTITY}."
        )


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


async def _asell(strategy: Strategy, request: PurchaseRequest) -> Receipt:
    """See _sell()."""
    _sold_out.check(request.product_id, request.quantity)
    async with _aturn(strategy, request.product_id):
        _sold_out.check(request.product_id, request.quantity)
        as_of = time.monotonic()
        try:
            return await strategy.asell(request)
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
    with timings.span("queue"):
        entered = _turnstile.enter(product_id, deadline=time.monotonic() + QUEUE_WAIT_S)
    if not entered:
        raise StockBusy
    try:
        yield
    finally:
        _turnstile.leave(product_id)


@asynccontextmanager
async def _aturn(strategy: Strategy, product_id: int) -> AsyncIterator[None]:
    """See _turn()."""
    if not strategy.one_at_a_time:
        yield
        return
    with timings.span("queue"):
        entered = await _aturnstile.enter(product_id, wait_s=QUEUE_WAIT_S)
    if not entered:
        raise StockBusy
    try:
        yield
    finally:
        _aturnstile.leave(product_id)


async def _in_thread(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return await in_thread(work, QUEUE_WAIT_S, *args, **kwargs)
    except NoThreadFree as error:
        raise StockBusy from error


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


async def _asale_terms(slug: str) -> SaleTerms:
    """See sale_terms(); OutcomeUnknown when the books cannot be asked."""
    terms: SaleTerms | None = caches["process"].get(slug)
    return terms if terms is not None else await _in_thread(_sale_terms_or_unknown, slug)


def _sale_terms_or_unknown(slug: str) -> SaleTerms:
    with outage_as(OutcomeUnknown):
        return sale_terms(slug)


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
