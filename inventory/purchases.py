"""The one service behind every purchase."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import ParamSpec, TypeVar

from django.utils import timezone
from django.utils.translation import gettext as _

from inventory import engine, locks, strategies, timings
from inventory.errors import (
    InvalidPurchase,
    OutcomeUnknown,
    Refusal,
    SoldOut,
    StockBusy,
    StrategyUnavailable,
)
from inventory.ledger import PurchaseRequest, Receipt
from inventory.refusal_counts import counted
from inventory.retries import afind_receipt, find_receipt, outage_as
from inventory.sold_out import SoldOutMemory
from inventory.strategies.base import Strategy
from inventory.terms import SaleTerms, fresh_terms, read_terms
from inventory.threads import NoThreadFree, close_threads, in_thread
from inventory.turnstile import AsyncTurnstile, Turnstile
from inventory.uninterrupted import all_ended

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


def purchase(*, slug: str, quantity: int, buyer: str, key: uuid.UUID) -> Receipt:
    """
    Sell `quantity` units to `buyer`, or find what `key` already bought.

    Raises ProductNotFound, InvalidPurchase, KeyReused, StrategyUnavailable,
    NotOpen, SoldOut, LimitReached, StockBusy (nothing sold, safe to retry) or OutcomeUnknown.
    """
    check_quantity(quantity)
    terms = terms_of(slug)
    request = terms.request(quantity=quantity, buyer=buyer, key=key)
    with counted(terms.product_id):
        return _purchase(terms, request)


async def apurchase(*, slug: str, quantity: int, buyer: str, key: uuid.UUID) -> Receipt:
    """
    See purchase(). What has no asynchronous form runs in a bounded number of threads.

    Cancelled, it leaves either a committed sale or nothing.
    """
    check_quantity(quantity)
    terms = await aterms_of(slug)
    request = terms.request(quantity=quantity, buyer=buyer, key=key)
    with counted(terms.product_id):
        return await _apurchase(terms, request)


def terms_of(slug: str) -> SaleTerms:
    """Say how a product is sold. Raises ProductNotFound; OutcomeUnknown without its books."""
    return fresh_terms(slug) or _read_terms(slug)


async def aterms_of(slug: str) -> SaleTerms:
    """See terms_of()."""
    terms = fresh_terms(slug)
    return await _in_thread(_read_terms, slug) if terms is None else terms


async def aclose() -> None:
    """Let the sales under way end, then close this event loop's connections."""
    await all_ended()
    await engine.close()
    await locks.close()
    await close_threads()


def check_quantity(quantity: int) -> None:
    """Raise InvalidPurchase for a number of units nobody may buy at once."""
    if not 1 <= quantity <= MAX_QUANTITY:
        problem = _("Quantity must be between 1 and %(most)s.") % {"most": MAX_QUANTITY}
        raise InvalidPurchase(field="quantity", problem=problem)


def _purchase(terms: SaleTerms, request: PurchaseRequest) -> Receipt:
    try:
        terms.check_open(timezone.now())
        return _sell(_strategy_for(terms), request)
    except (Refusal, StockBusy, StrategyUnavailable):
        earlier = find_receipt(request)
        if earlier is None:
            raise
        return earlier


async def _apurchase(terms: SaleTerms, request: PurchaseRequest) -> Receipt:
    """See _purchase()."""
    try:
        terms.check_open(timezone.now())
        strategy = _strategy_for(terms)
        if not strategy.has_asell:
            return await _in_thread(_purchase, terms, request)
        return await _asell(strategy, request)
    except (Refusal, StockBusy, StrategyUnavailable):
        earlier = await afind_receipt(request)
        if earlier is None:
            raise
        return earlier


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
        raise StrategyUnavailable(
            strategy=terms.strategy, reason=_("only lab products are sold so")
        )
    return strategy


def _read_terms(slug: str) -> SaleTerms:
    with outage_as(OutcomeUnknown):
        return read_terms(slug)
