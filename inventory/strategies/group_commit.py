from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import django.db
from django.db import connection

from inventory import ledger, retries, timings, verdicts
from inventory.errors import InventoryError, OutcomeUnknown, SoldOut, StockBusy
from inventory.gathering import Gathering, Opens
from inventory.strategies.base import (
    PurchaseRequest,
    Receipt,
    Strategy,
    aread_stock,
    asale_transaction,
    atake_units,
    read_stock,
    refuse_to_nest,
    sale_transaction,
    take_units,
)
from inventory.uninterrupted import uninterrupted

LARGEST_GROUP = 64
LONGEST_QUEUE = 1000
JOIN_WAIT_S = 3.0
"""How long a buyer waits for a group to take it along."""
ANSWER_WAIT_S = 12.0
"""How long it then waits for the group's commit before it calls the outcome unknown."""
GROUP_OUTAGES = verdicts.OUTAGES - {verdicts.Verdict.ROLLED_BACK}
"""What no smaller group would fare better with: all of its buyers are told to try again."""


class _TaskGate:
    """A lock taken once, for tasks."""

    def __init__(self) -> None:
        self._opened = asyncio.Event()

    def release(self) -> None:
        self._opened.set()

    async def acquire(self, wait_s: float) -> bool:
        try:
            async with asyncio.timeout(wait_s):
                return await self._opened.wait()
        except TimeoutError:
            return False


class _Place:
    """One buyer, the gate it sleeps at while others are at work, and its answer."""

    __slots__ = ("answer", "gate", "request")

    def __init__(self, request: PurchaseRequest, gate: Opens) -> None:
        self.request = request
        self.answer: Receipt | Exception | None = None
        self.gate = gate

    def told(self) -> Receipt:
        """Return the receipt, or raise why there is none."""
        if isinstance(self.answer, Receipt):
            return self.answer
        raise self.answer or OutcomeUnknown()


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
        limits = {"largest_group": LARGEST_GROUP, "longest_queue": LONGEST_QUEUE}
        self._threads: Gathering[_Place] = Gathering(**limits)
        self._tasks: Gathering[_Place] = Gathering(**limits)

    def sell(self, request: PurchaseRequest) -> Receipt:
        """Lead a group or be taken along by one."""
        refuse_to_nest()
        gate = threading.Lock()
        gate.acquire()
        place = _Place(request, gate)
        if not _join(self._threads, place):
            with timings.span("queue"):
                self._wait(place, gate)
        if place.answer is None:
            self._lead(place)
        return place.told()

    async def asell(self, request: PurchaseRequest) -> Receipt:
        """See sell(). Whoever calls may be cancelled; the purchase goes on to its end."""
        return await uninterrupted(self._asell(request))

    async def _asell(self, request: PurchaseRequest) -> Receipt:
        gate = _TaskGate()
        place = _Place(request, gate)
        if not _join(self._tasks, place):
            with timings.span("queue"):
                await self._await(place, gate)
        if place.answer is None:
            await self._alead(place)
        return place.told()

    def _wait(self, place: _Place, gate: threading.Lock) -> None:
        """
        Sleep until the place has an answer, or the lead without one.

        Raises StockBusy when nobody took it along in time, so that nobody will;
        OutcomeUnknown when somebody did, but never said how it went.
        """
        if gate.acquire(timeout=JOIN_WAIT_S):
            return
        if self._threads.give_up(place.request.product_id, place):
            raise StockBusy
        if not gate.acquire(timeout=ANSWER_WAIT_S):
            raise OutcomeUnknown

    async def _await(self, place: _Place, gate: _TaskGate) -> None:
        """See _wait()."""
        if await gate.acquire(JOIN_WAIT_S):
            return
        if self._tasks.give_up(place.request.product_id, place):
            raise StockBusy
        if not await gate.acquire(ANSWER_WAIT_S):
            raise OutcomeUnknown

    def sell_all(self, requests: Sequence[PurchaseRequest]) -> list[Receipt | Exception]:
        """Sell to one product's buyers as one group; an answer for each, in their order."""
        group = [_Place(request, threading.Lock()) for request in requests]
        self._answer(group)
        return [place.answer or OutcomeUnknown() for place in group]

    def sell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """Sell to a group of one."""
        (receipt,) = self._sell_together([request], attempt)
        return receipt

    async def asell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """See sell_once()."""
        (receipt,) = await self._asell_together([request], attempt)
        return receipt

    def _lead(self, place: _Place) -> None:
        followers = self._threads.take_along(place.request.product_id)
        try:
            self._answer([place, *followers])
        finally:
            self._threads.hand_on(place.request.product_id)
            _wake(followers)

    async def _alead(self, place: _Place) -> None:
        followers = self._tasks.take_along(place.request.product_id)
        try:
            await self._aanswer([place, *followers])
        finally:
            self._tasks.hand_on(place.request.product_id)
            _wake(followers)

    def _answer(self, group: Sequence[_Place]) -> None:
        """Give every member its answer, halving the group while it cannot be sold to as one."""
        waiting = [group]
        while waiting:
            members = waiting.pop()
            requests = [place.request for place in members]
            try:
                if len(members) == 1:
                    receipts = [retries.settle(self.sell_once, *requests)]
                else:
                    receipts = self._sell_together(requests, 1)
            except Exception as error:
                if _is_over(error):
                    connection.close()
                waiting = _after(error, members, waiting)
            else:
                _tell(members, receipts)

    async def _aanswer(self, group: Sequence[_Place]) -> None:
        """See _answer()."""
        waiting = [group]
        while waiting:
            members = waiting.pop()
            requests = [place.request for place in members]
            try:
                if len(members) == 1:
                    receipts = [await retries.asettle(self.asell_once, *requests)]
                else:
                    receipts = await self._asell_together(requests, 1)
            except Exception as error:
                waiting = _after(error, members, waiting)
            else:
                _tell(members, receipts)

    def _sell_together(self, requests: Sequence[PurchaseRequest], attempt: int) -> list[Receipt]:
        """Sell to all of one product's buyers in one transaction, or to none of them."""
        with sale_transaction():
            orders = ledger.place_orders(requests, attempts=attempt)
            taken = take_units(*_wanted(requests), writes=len(requests))
            stock = read_stock(requests[0].product_id)
            if not taken:
                raise SoldOut(available=stock.available)
            return ledger.close_sales(
                requests, orders, version=stock.version, available_after=stock.available
            )

    async def _asell_together(
        self, requests: Sequence[PurchaseRequest], attempt: int
    ) -> list[Receipt]:
        """See _sell_together()."""
        async with asale_transaction() as sale:
            orders = await ledger.aplace_orders(sale, requests, attempts=attempt)
            taken = await atake_units(sale, *_wanted(requests), writes=len(requests))
            stock = await aread_stock(sale, requests[0].product_id)
            if not taken:
                raise SoldOut(available=stock.available)
            return await ledger.aclose_sales(
                sale, requests, orders, version=stock.version, available_after=stock.available
            )


def _join(gathering: Gathering[_Place], place: _Place) -> bool:
    try:
        return gathering.join(place.request.product_id, place)
    except OverflowError as error:
        raise StockBusy from error


def _wake(followers: Sequence[_Place]) -> None:
    """Wake who was taken along; whom a dead leader left without an answer is in doubt."""
    for place in followers:
        place.answer = place.answer or OutcomeUnknown()
        place.gate.release()


def _wanted(requests: Sequence[PurchaseRequest]) -> tuple[int, int]:
    return requests[0].product_id, sum(request.quantity for request in requests)


def _tell(members: Sequence[_Place], answers: Sequence[Receipt | Exception]) -> None:
    for place, answer in zip(members, answers, strict=True):
        place.answer = answer


def _is_over(error: Exception) -> bool:
    """Whether the database cannot be sold from just now, by any group."""
    if isinstance(error, django.db.Error):
        return verdicts.verdict_on(error) in GROUP_OUTAGES
    return isinstance(error, retries.CommitLost | StockBusy | OutcomeUnknown)


def _after(
    error: Exception, members: Sequence[_Place], waiting: list[Sequence[_Place]]
) -> list[Sequence[_Place]]:
    """Tell those whose answer a failure settles; the groups that must still be tried."""
    if isinstance(error, SoldOut) and error.available < min(p.request.quantity for p in members):
        _tell(members, [SoldOut(available=error.available) for _ in members])
    elif _is_over(error):
        lost = isinstance(error, retries.CommitLost)
        answers: list[InventoryError] = [OutcomeUnknown() if lost else StockBusy() for _ in members]
        _tell(members, [error] if len(members) == 1 else answers)
        for others in waiting:
            _tell(others, [StockBusy() for _ in others])
        return []
    elif len(members) == 1:
        _tell(members, [error])
    else:
        middle = len(members) // 2
        return [*waiting, members[middle:], members[:middle]]
    return waiting
