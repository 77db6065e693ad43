from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence

import django.db
from django.db import connection

from inventory import ledger, retries
from inventory.errors import InventoryError, OutcomeUnknown, SoldOut, StockBusy
from inventory.strategies.base import (
    PurchaseRequest,
    Receipt,
    Strategy,
    aread_stock,
    asale_transaction,
    atake_units,
    read_stock,
    sale_transaction,
    take_units,
)
from inventory.uninterrupted import in_background

LARGEST_GROUP = 64
LONGEST_QUEUE = 1000
JOIN_WAIT_S = 3.0
"""How long a buyer waits for a group to take it along."""
ANSWER_WAIT_S = 12.0
"""How long it then waits for the group's commit before it calls the outcome unknown."""
GROUP_OUTAGES = retries.OUTAGES - {retries.Verdict.ROLLED_BACK}
"""What no smaller group would fare better with: all of its buyers are told to try again."""


_APlace = tuple[PurchaseRequest, "asyncio.Future[Receipt]"]


class _Place:
    """One buyer in the queue, with a gate of its own to sleep at, and its answer."""

    __slots__ = ("answer", "gate", "request")

    def __init__(self, request: PurchaseRequest) -> None:
        self.request = request
        self.answer: Receipt | Exception | None = None
        self.gate = threading.Lock()
        self.gate.acquire()


class GroupCommit(Strategy):
    """
    Buyers who arrive together in one process share one transaction.

    The first leads: it takes along who queued by then (64 at most), writes all
    their orders, takes all their units in one guarded UPDATE and commits once;
    then the next in the queue leads. Nobody waits for a crowd to gather. A group
    that cannot be sold to as a whole is halved until whoever is in the way stands
    alone, so each buyer gets an answer of its own and harms nobody else's. Waiting
    ends after 3 s in StockBusy. Raises SoldOut, LimitReached.
    """

    label = "Group commit"
    one_at_a_time = False

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._queues: dict[int, deque[_Place]] = {}
        self._aqueues: dict[int, deque[_APlace]] = {}

    def sell(self, request: PurchaseRequest) -> Receipt:
        """Lead a group or be taken along by one."""
        place = _Place(request)
        with self._mutex:
            queue = self._queues.get(request.product_id)
            leads = queue is None
            if queue is None:
                queue = self._queues[request.product_id] = deque()
            elif len(queue) >= LONGEST_QUEUE:
                raise StockBusy
            else:
                queue.append(place)
        if leads or self._is_given_the_lead(place, queue):
            self._lead(place, queue)
        assert place.answer is not None
        if isinstance(place.answer, Exception):
            raise place.answer
        return place.answer

    def sell_all(self, requests: Sequence[PurchaseRequest]) -> list[Receipt | Exception]:
        """Sell to one product's buyers as one group; an answer for each, in their order."""
        group = [_Place(request) for request in requests]
        self._answer(group)
        return [place.answer or OutcomeUnknown() for place in group]

    def sell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """Sell to a group of one."""
        (receipt,) = self._sell_together([request], attempt)
        return receipt

    async def asell(self, request: PurchaseRequest) -> Receipt:
        """See sell(). One task per product leads, for as long as anybody queues."""
        place: _APlace = (request, asyncio.get_running_loop().create_future())
        queue = self._aqueues.get(request.product_id)
        if queue is not None and len(queue) >= LONGEST_QUEUE:
            raise StockBusy
        if queue is None:
            queue = self._aqueues[request.product_id] = deque()
            in_background(self._alead(request.product_id))
        queue.append(place)
        try:
            async with asyncio.timeout(JOIN_WAIT_S):
                return await asyncio.shield(place[1])
        except TimeoutError:
            if _left(queue, place):
                raise StockBusy from None
            return await _answer_within(place, ANSWER_WAIT_S)
        except asyncio.CancelledError:
            _left(queue, place)
            raise

    async def asell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """See sell_once()."""
        (receipt,) = await self._asell_together([request], attempt)
        return receipt

    async def _alead(self, product_id: int) -> None:
        queue = self._aqueues[product_id]
        try:
            while queue:
                group = [queue.popleft() for _ in range(min(len(queue), LARGEST_GROUP))]
                try:
                    await self._aanswer(group)
                finally:
                    _tell(group, [OutcomeUnknown()] * len(group))
        finally:
            del self._aqueues[product_id]

    async def _aanswer(self, group: Sequence[_APlace]) -> None:
        """See _answer()."""
        requests = [request for request, _ in group]
        answers: Sequence[Receipt | Exception] | None
        try:
            if len(group) == 1:
                answers = [await retries.asettle(self.asell_once, *requests)]
            else:
                answers = await self._asell_together(requests, 1)
        except Exception as error:
            answers = [error] if len(group) == 1 else _same_for_all(error, requests)
        if answers is None:
            middle = len(group) // 2
            await self._aanswer(group[:middle])
            await self._aanswer(group[middle:])
            return
        _tell(group, answers)

    async def _asell_together(
        self, requests: Sequence[PurchaseRequest], attempt: int
    ) -> list[Receipt]:
        """See _sell_together()."""
        product_id = requests[0].product_id
        units = sum(request.quantity for request in requests)
        async with asale_transaction() as sale:
            orders = await ledger.aplace_orders(sale, requests, attempts=attempt)
            taken = await atake_units(sale, product_id, units, writes=len(requests))
            stock = await aread_stock(sale, product_id)
            if not taken:
                raise SoldOut(available=stock.available)
            return await ledger.aclose_sales(
                sale, requests, orders, version=stock.version, available_after=stock.available
            )

    def _is_given_the_lead(self, place: _Place, queue: deque[_Place]) -> bool:
        """
        Sleep until the place has an answer, or the lead without one.

        Raises StockBusy when nobody took it along in time, so that nobody will;
        OutcomeUnknown when somebody did, but never said how it went.
        """
        if not place.gate.acquire(timeout=JOIN_WAIT_S):
            with self._mutex:
                if place in queue:
                    queue.remove(place)
                    raise StockBusy
            if not place.gate.acquire(timeout=ANSWER_WAIT_S):
                raise OutcomeUnknown
        return place.answer is None

    def _lead(self, place: _Place, queue: deque[_Place]) -> None:
        with self._mutex:
            followers = [queue.popleft() for _ in range(min(len(queue), LARGEST_GROUP - 1))]
        group = [place, *followers]
        try:
            self._answer(group)
        finally:
            with self._mutex:
                if queue:
                    queue.popleft().gate.release()
                else:
                    del self._queues[place.request.product_id]
            for member in followers:
                member.answer = member.answer or OutcomeUnknown()
                member.gate.release()

    def _answer(self, group: Sequence[_Place]) -> None:
        """Give every member its answer, halving the group while it cannot be sold to as one."""
        requests = [place.request for place in group]
        answers: Sequence[Receipt | Exception] | None
        try:
            if len(group) == 1:
                answers = [retries.settle(self.sell_once, *requests)]
            else:
                answers = self._sell_together(requests, 1)
        except Exception as error:
            answers = [error] if len(group) == 1 else _same_for_all(error, requests)
            if len(group) > 1 and isinstance(error, django.db.Error | retries.CommitLost):
                connection.close()
        if answers is None:
            middle = len(group) // 2
            self._answer(group[:middle])
            self._answer(group[middle:])
            return
        for place, answer in zip(group, answers, strict=True):
            place.answer = answer

    def _sell_together(self, requests: Sequence[PurchaseRequest], attempt: int) -> list[Receipt]:
        """Sell to all of one product's buyers in one transaction, or to none of them."""
        product_id = requests[0].product_id
        units = sum(request.quantity for request in requests)
        with sale_transaction():
            orders = ledger.place_orders(requests, attempts=attempt)
            taken = take_units(product_id, units, writes=len(requests))
            stock = read_stock(product_id)
            if not taken:
                raise SoldOut(available=stock.available)
            return ledger.close_sales(
                requests, orders, version=stock.version, available_after=stock.available
            )


def _tell(group: Sequence[_APlace], answers: Sequence[Receipt | Exception]) -> None:
    """Give each member its answer, unless it has one or has gone."""
    for (_, told), answer in zip(group, answers, strict=True):
        if told.done():
            continue
        if isinstance(answer, Exception):
            told.set_exception(answer)
            told.exception()  # its buyer may have gone, and nobody else asks
        else:
            told.set_result(answer)


def _left(queue: deque[_APlace], place: _APlace) -> bool:
    """Leave the queue; False when a group took the place along already."""
    if place not in queue:
        return False
    queue.remove(place)
    return True


async def _answer_within(place: _APlace, wait_s: float) -> Receipt:
    try:
        async with asyncio.timeout(wait_s):
            return await asyncio.shield(place[1])
    except TimeoutError as error:
        raise OutcomeUnknown from error


def _same_for_all(
    error: Exception, requests: Sequence[PurchaseRequest]
) -> list[InventoryError] | None:
    """What a failed group's members are all told, or None when each must be tried."""
    if isinstance(error, SoldOut) and error.available < min(r.quantity for r in requests):
        return [SoldOut(available=error.available) for _ in requests]
    if isinstance(error, retries.CommitLost):
        return [OutcomeUnknown() for _ in requests]
    if isinstance(error, django.db.Error) and retries.verdict_on(error) in GROUP_OUTAGES:
        return [StockBusy() for _ in requests]
    return None
