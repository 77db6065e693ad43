"""
Which database errors mean what, and how a sale is tried again.

The one place for both. The meaning of each code, and what the server has
already rolled back by then, is in the MariaDB and MySQL error references and
SQLite's result codes.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto

import django.db
from django.db import connection

from inventory import ledger, timings
from inventory.errors import OutcomeUnknown, SoldOut, StockBusy
from inventory.ledger import PurchaseRequest, Receipt
from inventory.threads import NoThreadFree, in_thread

logger = logging.getLogger(__name__)

BUDGET_S = 4.0
"""No try begins later; the last may still wait 3 s for the row, 6 s for a dead network."""
MOST_TRANSIENT_ERRORS = 5
PAUSE_BASE_S = 0.02
PAUSE_CAP_S = 0.25
THREAD_WAIT_S = 3.0
"""How long an asynchronous sale waits for a thread to look something up in."""


class Conflict(Exception):
    """A rival wrote the stock row first: start again in a fresh transaction."""


class CommitLost(Exception):
    """The connection broke while committing: the sale may or may not be made."""


class Verdict(Enum):
    """What a database error means for the sale that met it."""

    ROLLED_BACK = auto()
    """The server undid the transaction: run it again."""
    WAITED_TOO_LONG = auto()
    """A lock or a connection was not to be had in time: once more at most, then busy."""
    CONNECTION_LOST = auto()
    """Before the commit nothing was sold; during it nobody knows."""
    DUPLICATE = auto()
    """The key already has an order, or this is a bug."""
    GUARD_REACHED = auto()
    """The CHECK constraint behind the guard said no: sold out, and an alarm."""
    REFUSED = auto()
    """Nothing was sold, and trying again at once would not help: busy."""
    CANNOT_WRITE = auto()
    """Full or read-only: busy, and an alarm."""
    UNCLASSIFIED = auto()
    """Not in the table: a bug, raised as it is."""


MYSQL_VERDICTS = {
    1213: Verdict.ROLLED_BACK,  # deadlock
    1020: Verdict.ROLLED_BACK,  # record changed since the snapshot (MariaDB 11.6.2 on)
    1305: Verdict.ROLLED_BACK,  # SAVEPOINT gone: consequence of 1213 in a nested block
    1205: Verdict.WAITED_TOO_LONG,  # lock wait timeout; also NOWAIT on MariaDB
    3572: Verdict.WAITED_TOO_LONG,  # NOWAIT on MySQL
    1040: Verdict.WAITED_TOO_LONG,  # too many connections
    1203: Verdict.WAITED_TOO_LONG,  # too many connections of this user
    1226: Verdict.WAITED_TOO_LONG,  # this user's resource limit
    2002: Verdict.WAITED_TOO_LONG,  # cannot connect (socket)
    2003: Verdict.WAITED_TOO_LONG,  # cannot connect (TCP)
    2005: Verdict.WAITED_TOO_LONG,  # the server's name does not resolve
    2006: Verdict.CONNECTION_LOST,  # server has gone away
    2013: Verdict.CONNECTION_LOST,  # lost connection during query
    1927: Verdict.CONNECTION_LOST,  # connection was killed (MariaDB)
    1053: Verdict.CONNECTION_LOST,  # server is shutting down
    0: Verdict.CONNECTION_LOST,  # the driver's word for a connection already closed
    1062: Verdict.DUPLICATE,
    4025: Verdict.GUARD_REACHED,  # CHECK failed on MariaDB
    3819: Verdict.GUARD_REACHED,  # CHECK failed on MySQL
    1690: Verdict.GUARD_REACHED,  # unsigned underflow
    1317: Verdict.REFUSED,  # query killed
    1969: Verdict.REFUSED,  # max_statement_time (MariaDB)
    3024: Verdict.REFUSED,  # max_execution_time (MySQL)
    1206: Verdict.CANNOT_WRITE,  # lock table full
    1114: Verdict.CANNOT_WRITE,  # table full
    1021: Verdict.CANNOT_WRITE,  # disk full
    1290: Verdict.CANNOT_WRITE,  # --read-only
    1836: Verdict.CANNOT_WRITE,  # read-only mode
    1792: Verdict.CANNOT_WRITE,  # read-only transaction
}
SQLITE_VERDICTS = {
    5: Verdict.WAITED_TOO_LONG,  # SQLITE_BUSY
    517: Verdict.ROLLED_BACK,  # SQLITE_BUSY_SNAPSHOT
    6: Verdict.WAITED_TOO_LONG,  # SQLITE_LOCKED
    14: Verdict.WAITED_TOO_LONG,  # SQLITE_CANTOPEN
    2067: Verdict.DUPLICATE,  # SQLITE_CONSTRAINT_UNIQUE
    1555: Verdict.DUPLICATE,  # SQLITE_CONSTRAINT_PRIMARYKEY
    275: Verdict.GUARD_REACHED,  # SQLITE_CONSTRAINT_CHECK
    9: Verdict.REFUSED,  # SQLITE_INTERRUPT
    13: Verdict.CANNOT_WRITE,  # SQLITE_FULL
    8: Verdict.CANNOT_WRITE,  # SQLITE_READONLY
    10: Verdict.CANNOT_WRITE,  # SQLITE_IOERR
}
OUTAGES = {
    Verdict.ROLLED_BACK,
    Verdict.WAITED_TOO_LONG,
    Verdict.CONNECTION_LOST,
    Verdict.REFUSED,
    Verdict.CANNOT_WRITE,
}
"""What the database's state explains; anything else is a bug."""


def verdict_on(error: django.db.Error) -> Verdict:
    """Classify a database error by its driver's code."""
    cause = error.__cause__ or error
    sqlite_code = getattr(cause, "sqlite_errorcode", None)
    if sqlite_code is not None:
        family = SQLITE_VERDICTS.get(sqlite_code & 0xFF, Verdict.UNCLASSIFIED)
        return SQLITE_VERDICTS.get(sqlite_code, family)
    code = cause.args[0] if cause.args else None
    return (
        MYSQL_VERDICTS.get(code, Verdict.UNCLASSIFIED)
        if type(code) is int
        else Verdict.UNCLASSIFIED
    )


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
    course = _Course()
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
    course = _Course()
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

    def __init__(self) -> None:
        self.attempts = 0
        self.in_doubt: Exception | None = None
        self._transient_errors = 0
        self._commit_lost = False

    def pauses(self) -> Iterator[float]:
        """Count attempts within the budget; give the jittered, growing pause (s) before each."""
        ends_at = time.monotonic() + BUDGET_S
        pause_s = 0.0
        while True:
            self.attempts += 1
            timings.attempt()
            yield pause_s
            cap_s = min(PAUSE_CAP_S, PAUSE_BASE_S * 2 ** min(self.attempts, 16))
            pause_s = random.uniform(0, cap_s)
            if time.monotonic() + pause_s >= ends_at:
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
