"""How a sale is tried again, by what its errors mean (inventory/verdicts.py)."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import django.db
from django.db import connection

from inventory import ledger, timings
from inventory.errors import OutcomeUnknown, SoldOut, StockBusy
from inventory.ledger import PurchaseRequest, Receipt
from inventory.threads import NoThreadFree, in_thread
from inventory.verdicts import OUTAGES, Verdict, verdict_on

logger = logging.getLogger(__name__)

BUDGET_S = 5.0
"""
No try but the first begins so long after the buyer asked, whatever was waited for before; the
last may still wait 3 s for the row, 6 s for a dead network.
"""
MOST_TRANSIENT_ERRORS = 5
PAUSE_BASE_S = 0.02
PAUSE_CAP_S = 0.25
THREAD_WAIT_S = 3.0
"""How long an asynchronous sale waits for a thread to look something up in."""


class Conflict(Exception):
    """A rival wrote the stock row first: start again in a fresh transaction."""


class CommitLost(Exception):
    """The connection broke while committing: the sale may or may not be made."""


@contextmanager
def outage_as(answer: type[StockBusy] | type[OutcomeUnknown]) -> Iterator[None]:
    """Raise `answer` for a database that cannot be asked right now; bugs pass through."""
    try:
        yield
    except django.db.Error as error:
        if verdict_on(error) not in OUTAGES:
            raise
        connection.close()
        raise answer from error


def settle(
    sell_once: Callable[[PurchaseRequest, int], Receipt], request: PurchaseRequest
) -> Receipt:
    """
    Run `sell_once` until the sale is made, refused, or its time is up.

    Every attempt is a fresh transaction under the same key, so that even a
    wrong classification could not sell twice. Raises SoldOut, StockBusy,
    OutcomeUnknown, KeyReused.
    """
    course = _Course(request)
    with course.told_truly():
        for pause_s in course.pauses():
            if pause_s:
                time.sleep(pause_s)
            try:
                return sell_once(request, course.attempts)
            except Conflict:
                continue
            except CommitLost as error:
                connection.close()
                course.doubt(error)
            except django.db.Error as error:
                if course.judge(error) is Verdict.CONNECTION_LOST:
                    connection.close()
            if course.in_doubt is not None:
                receipt = find_receipt(request)
                if receipt is not None:
                    return receipt
                course.nothing_was_sold()
        raise StockBusy(attempts=course.attempts)


async def asettle(
    sell_once: Callable[[PurchaseRequest, int], Awaitable[Receipt]], request: PurchaseRequest
) -> Receipt:
    """See settle()."""
    course = _Course(request)
    with course.told_truly():
        for pause_s in course.pauses():
            if pause_s:
                await asyncio.sleep(pause_s)
            try:
                return await sell_once(request, course.attempts)
            except Conflict:
                continue
            except CommitLost as error:
                course.doubt(error)
            except django.db.Error as error:
                course.judge(error)
            if course.in_doubt is not None:
                receipt = await afind_receipt(request)
                if receipt is not None:
                    return receipt
                course.nothing_was_sold()
        raise StockBusy(attempts=course.attempts)


def find_receipt(request: PurchaseRequest) -> Receipt | None:
    """Find the sale this key already made; OutcomeUnknown when the books cannot be asked."""
    with outage_as(OutcomeUnknown):
        return ledger.find_receipt(request)


async def afind_receipt(request: PurchaseRequest) -> Receipt | None:
    """See find_receipt()."""
    try:
        return await in_thread(find_receipt, THREAD_WAIT_S, request)
    except NoThreadFree as error:
        raise OutcomeUnknown from error


class _Course:
    """How one sale's attempts went so far, and what follows from it."""

    def __init__(self, request: PurchaseRequest) -> None:
        self.ends_at = request.asked_at + BUDGET_S
        self.attempts = 0
        self.in_doubt: Exception | None = None
        self._transient_errors = 0
        self._commit_lost = False

    def pauses(self) -> Iterator[float]:
        """Count attempts within the budget; give the jittered, growing pause (s) before each."""
        pause_s = 0.0
        while True:
            self.attempts += 1
            timings.attempt()
            yield pause_s
            cap_s = min(PAUSE_CAP_S, PAUSE_BASE_S * 2 ** min(self.attempts, 16))
            pause_s = random.uniform(0, cap_s)
            if time.monotonic() + pause_s >= self.ends_at:
                return

    @contextmanager
    def told_truly(self) -> Iterator[None]:
        """Say that the outcome is unknown, instead of busy, where a commit's answer was lost."""
        try:
            yield
        except StockBusy as busy:
            if self._commit_lost:
                raise OutcomeUnknown from busy
            raise

    def doubt(self, error: CommitLost) -> None:
        """Note that this attempt may have sold, for all one knows."""
        self._commit_lost = True
        self.in_doubt = error

    def nothing_was_sold(self) -> None:
        """Go on after a doubt; a duplicate of nothing is a bug, and raised."""
        doubt, self.in_doubt = self.in_doubt, None
        if isinstance(doubt, django.db.Error):
            raise doubt

    def judge(self, error: django.db.Error) -> Verdict:
        """Return to try again, or to look the sale up where in doubt; raise when it is over."""
        self._transient_errors += 1
        verdict = verdict_on(error)
        match verdict:
            case Verdict.DUPLICATE:
                self.in_doubt = error
            case Verdict.ROLLED_BACK | Verdict.CONNECTION_LOST if (
                self._transient_errors < MOST_TRANSIENT_ERRORS
            ):
                pass
            case Verdict.WAITED_TOO_LONG if self._transient_errors < 2:
                pass
            case Verdict.GUARD_REACHED:
                logger.error("A guard let a write through to the CHECK constraint: %s", error)
                raise SoldOut(available=0) from error
            case Verdict.CANNOT_WRITE:
                logger.error("The database cannot take sales: %s", error)
                raise StockBusy(attempts=self.attempts) from error
            case Verdict.UNCLASSIFIED:
                raise error
            case _:
                raise StockBusy(attempts=self.attempts) from error
        return verdict
