from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.core.cache import caches
from redis.asyncio.lock import Lock as AsyncLock
from redis.exceptions import LockError, RedisError
from redis.lock import Lock

from inventory import locks, retries, timings
from inventory.errors import StockBusy
from inventory.strategies.base import (
    PurchaseRequest,
    Receipt,
    Strategy,
    aread_stock,
    asale_transaction,
    atake_at_version,
    read_stock,
    sale_transaction,
    take_at_version,
)
from inventory.turnstile import AsyncTurnstile, Turnstile
from inventory.uninterrupted import uninterrupted

logger = logging.getLogger(__name__)

LockT = TypeVar("LockT", bound=Lock | AsyncLock)

LOCK_TTL_S = 2.5
"""A crashed holder blocks the others no longer than this."""
LOCK_WAIT_S = 5.0
"""Longer than the TTL, so that buyers outlive a crashed holder."""
LONGEST_QUEUE = 1000
LOCK_POLL_S = 0.005
LEASE_S = 0.5
"""For how long one process may hand the lock from buyer to buyer: well below the TTL."""
LEASE_SALES = 50
YIELD_S = 1.5 * LOCK_POLL_S
"""How long a process stands back after a full lease, so that another's poll comes first."""


SILENCE_S = 0.5
"""For how long a Redis that did not answer is not asked again, and buyers are busy at once."""


@dataclass(slots=True)
class _Lease(Generic[LockT]):
    """The Redis lock as held by this process, for one buyer after another."""

    lock: LockT
    taken_at: float
    sales: int = 0

    def may_be_handed_on(self) -> bool:
        return self.sales < LEASE_SALES and time.monotonic() - self.taken_at < LEASE_S


class RedisLock(Strategy):
    """
    Hold a lock in Redis from before the transaction until after its commit.

    Polling a lock starves and wastes, so one thread per process competes for it
    and hands it to the buyers queueing behind it, first come first served, for
    at most 0.5 s or 50 sales. A lock lost to its TTL (2.5 s) sells nothing twice:
    the write is guarded by the version as well. Waiting ends after 5 s in
    StockBusy, and so does a Redis that cannot be reached, which the queue behind is
    told at once. Raises SoldOut, LimitReached.
    """

    label = "Redis lock"
    needs_redis = True
    one_at_a_time = False

    def __init__(self) -> None:
        self._turnstile = Turnstile(longest_queue=LONGEST_QUEUE)
        self._leases: dict[int, _Lease[Lock]] = {}
        self._stand_back_until: dict[int, float] = {}
        self._silent_until = 0.0
        self._aturnstile = AsyncTurnstile(longest_queue=LONGEST_QUEUE)
        self._aleases: dict[int, _Lease[AsyncLock]] = {}

    def sell(self, request: PurchaseRequest) -> Receipt:
        """Sell under the lock, which covers the retries too."""
        with self._locked(request.product_id):
            return super().sell(request)

    def sell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """Read, decide, write: alone with the row, if the lock still is ours."""
        seen = read_stock(request.product_id)
        with sale_transaction():
            return take_at_version(request, seen, attempt)

    async def asell(self, request: PurchaseRequest) -> Receipt:
        """See sell(). One task per process competes, and hands the lock to those behind it."""
        wait_ends_at = time.monotonic() + LOCK_WAIT_S
        with timings.span("queue"):
            entered = await self._aturnstile.enter(request.product_id, wait_s=LOCK_WAIT_S)
        if not entered:
            raise StockBusy
        return await uninterrupted(self._asell_in_turn(request, wait_ends_at))

    async def asell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """See sell_once()."""
        async with asale_transaction() as sale:
            seen = await aread_stock(sale, request.product_id)
            return await atake_at_version(sale, request, seen, attempt)

    async def _asell_in_turn(self, request: PurchaseRequest, deadline: float) -> Receipt:
        product_id = request.product_id
        try:
            with timings.span("lock"):
                lease = self._aleases.get(product_id) or await self._atake(product_id, deadline)
            lease.sales += 1
            return await retries.asettle(self.asell_once, request)
        finally:
            held = self._aleases.get(product_id)
            handed_on = (
                held is not None
                and held.may_be_handed_on()
                and self._aturnstile.hand_on(product_id)
            )
            if not handed_on:
                await self._arelease(product_id)
                self._aturnstile.leave(product_id)

    async def _atake(self, product_id: int, deadline: float) -> _Lease[AsyncLock]:
        self._check_not_silent()
        lock = locks.alock(f"stock:{{{product_id}}}", timeout=LOCK_TTL_S, sleep=LOCK_POLL_S)
        await asyncio.sleep(self._stands_back_for_s(product_id))
        try:
            acquired = await lock.acquire(blocking_timeout=max(0.0, deadline - time.monotonic()))
        except RedisError as error:
            self._silent_until = time.monotonic() + SILENCE_S
            raise StockBusy from error
        if not acquired:
            raise StockBusy
        lease = self._aleases[product_id] = _Lease(lock=lock, taken_at=time.monotonic())
        return lease

    async def _arelease(self, product_id: int) -> None:
        lease = self._aleases.pop(product_id, None)
        if lease is None:
            return
        self._stand_back_after(lease, product_id)
        with _released_at_best(product_id):
            await lease.lock.release()

    @contextmanager
    def _locked(self, product_id: int) -> Iterator[None]:
        deadline = time.monotonic() + LOCK_WAIT_S
        with timings.span("queue"):
            entered = self._turnstile.enter(product_id, deadline=deadline)
        if not entered:
            raise StockBusy
        try:
            with timings.span("lock"):
                lease = self._leases.get(product_id) or self._take(product_id, deadline)
            lease.sales += 1
            yield
        finally:
            held = self._leases.get(product_id)
            handed_on = (
                held is not None and held.may_be_handed_on() and self._turnstile.hand_on(product_id)
            )
            if not handed_on:
                self._release(product_id)
                self._turnstile.leave(product_id)

    def _take(self, product_id: int, deadline: float) -> _Lease[Lock]:
        self._check_not_silent()
        lock = caches["locks"].lock(  # type: ignore[attr-defined]  # django-redis adds it
            f"stock:{{{product_id}}}", timeout=LOCK_TTL_S, sleep=LOCK_POLL_S, thread_local=False
        )
        time.sleep(self._stands_back_for_s(product_id))
        try:
            acquired = lock.acquire(blocking_timeout=max(0.0, deadline - time.monotonic()))
        except RedisError as error:
            self._silent_until = time.monotonic() + SILENCE_S
            raise StockBusy from error
        if not acquired:
            raise StockBusy
        lease = self._leases[product_id] = _Lease(lock=lock, taken_at=time.monotonic())
        return lease

    def _release(self, product_id: int) -> None:
        """Give the Redis lock back; a lost lock is an alarm, not a failed sale."""
        lease = self._leases.pop(product_id, None)
        if lease is None:
            return
        self._stand_back_after(lease, product_id)
        with _released_at_best(product_id):
            lease.lock.release()

    def _check_not_silent(self) -> None:
        """Raise StockBusy for who queued behind a buyer that Redis did not answer."""
        if time.monotonic() < self._silent_until:
            raise StockBusy

    def _stand_back_after(self, lease: _Lease[Any], product_id: int) -> None:
        if not lease.may_be_handed_on():
            self._stand_back_until[product_id] = time.monotonic() + YIELD_S

    def _stands_back_for_s(self, product_id: int) -> float:
        return max(0.0, self._stand_back_until.get(product_id, 0) - time.monotonic())


@contextmanager
def _released_at_best(product_id: int) -> Iterator[None]:
    """Take a lock that could not be released for an alarm, not for a failed sale."""
    try:
        yield
    except LockError:
        logger.warning("The Redis lock of product %s outlived its TTL", product_id)
    except RedisError as error:
        logger.warning("The Redis lock of product %s is left to its TTL: %s", product_id, error)
