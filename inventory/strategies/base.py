"""
The purchase contract, said once.

A strategy may assume that no transaction is open and that the request is valid.
It must leave true, whatever happens: `available >= 0`; version + 1 and exactly
one movement per sale; one order per buyer and key; no buyer over the product's
limit; stock, order and movement committed together or not at all.

The last line of defence is the same in every strategy: the write is guarded and
its row count decides. A lock only shortens the queue at that guard, so
strategies may be mixed on one product.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import ClassVar

import django.db
from django.conf import settings
from django.db import connection, transaction
from django.utils.translation import gettext as _

from inventory import engine, ledger, retries, timings, verdicts
from inventory.errors import SoldOut
from inventory.ledger import PurchaseRequest, Receipt
from inventory.models import Stock
from inventory.uninterrupted import uninterrupted

__all__ = [
    "PurchaseRequest",
    "Receipt",
    "Strategy",
    "aread_stock",
    "asale_transaction",
    "atake_at_version",
    "atake_units",
    "read_stock",
    "refuse_to_nest",
    "sale_transaction",
    "take_at_version",
    "take_units",
]


# Arguments: quantity, writes, product, quantity. One row is written, or none when too few are left.
TAKE_UNITS = """
UPDATE inventory_stock SET available = available - %s, version = version + %s
WHERE product_id = %s AND available >= %s
"""
# Arguments: quantity, product, version seen, quantity. No row is written when a rival was faster.
TAKE_AT_VERSION = """
UPDATE inventory_stock SET available = available - %s, version = version + 1
WHERE product_id = %s AND version = %s AND available >= %s
"""
# Argument: product. Without a lock: the row as last committed, or as this transaction wrote it.
READ_STOCK = "SELECT available, version FROM inventory_stock WHERE product_id = %s"
LOCK_STOCK = READ_STOCK + " FOR UPDATE"


class Strategy(ABC):
    """A way of taking units from the stock row under contention."""

    label: ClassVar[str]
    needs_redis: ClassVar[bool] = False
    needs_row_locks: ClassVar[bool] = False
    needs_procedures: ClassVar[bool] = False
    lab_only: ClassVar[bool] = False
    one_at_a_time: ClassVar[bool] = True
    """Whether a process lets one buyer at a time to it; off for what queues itself."""

    @abstractmethod
    def sell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """
        Try once, in a transaction of its own; `attempt` counts from 1.

        Raises SoldOut, LimitReached, or Conflict when a rival was faster;
        database errors pass through, for `sell` to judge.
        """

    def sell(self, request: PurchaseRequest) -> Receipt:
        """
        Sell, trying again where that is safe and useful.

        Raises SoldOut, LimitReached, StockBusy (nothing sold, safe to retry)
        or OutcomeUnknown (ask again with the same key).
        """
        return retries.settle(self.sell_once, request)

    def pending(self, product_id: int) -> int:
        """How many accepted purchases of a product are not in the database yet."""
        return 0

    async def asell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """See sell_once(). Where this is absent, `sell` runs in a thread."""
        raise NotImplementedError

    async def asell(self, request: PurchaseRequest) -> Receipt:
        """See sell(). Whoever calls may be cancelled; a sale begun goes on to its end."""
        return await uninterrupted(retries.asettle(self.asell_once, request))

    @property
    def has_asell(self) -> bool:
        """Whether `asell` can run here."""
        return type(self).asell_once is not Strategy.asell_once and engine.runs_here()

    def unavailable_reason(self) -> str | None:
        """Say what is missing for this strategy to run here, or None."""
        if self.needs_redis and "locks" not in settings.CACHES:
            return _("it needs Redis, and REDIS_URL is not set")
        if self.needs_procedures and connection.vendor != "mysql":
            return _("it needs MariaDB or MySQL")
        return None

    def remark(self) -> str | None:
        """Say what is different about it here, or None."""
        if self.needs_row_locks and not connection.features.has_select_for_update:
            return "no row locks here: one writer at a time instead"
        return None


def refuse_to_nest() -> None:
    """Raise RuntimeError inside a transaction: it would be committed with the sale's."""
    if connection.in_atomic_block:
        raise RuntimeError("A sale is a durable transaction and cannot be nested in another.")


def read_stock(product_id: int) -> Stock:
    """Read the stock row, without a lock and without the price of compiling a query."""
    with connection.cursor() as cursor:
        cursor.execute(READ_STOCK, [product_id])
        available, version = cursor.fetchone() or (0, 0)
    return Stock(product_id=product_id, available=available, version=version)


async def aread_stock(sale: engine.Transaction, product_id: int, *, lock: bool = False) -> Stock:
    """See read_stock(); with `lock`, nobody else writes the row until the transaction's end."""
    with timings.locking() if lock else nullcontext():
        rows = await sale.read(LOCK_STOCK if lock else READ_STOCK, [product_id])
    available, version = rows[0] if rows else (0, 0)
    return Stock(product_id=product_id, available=available, version=version)


def take_units(product_id: int, quantity: int, *, writes: int = 1) -> bool:
    """
    Take units where enough are available; False, and nothing is taken, where not.

    `writes` counts the sales that share them, each with a version and a movement of its own.
    """
    with connection.cursor() as cursor, timings.locking():
        cursor.execute(TAKE_UNITS, [quantity, writes, product_id, quantity])
        return bool(cursor.rowcount)


async def atake_units(
    sale: engine.Transaction, product_id: int, quantity: int, *, writes: int = 1
) -> bool:
    """See take_units()."""
    with timings.locking():
        return bool(await sale.write(TAKE_UNITS, [quantity, writes, product_id, quantity]))


def take_at_version(request: PurchaseRequest, seen: Stock, attempt: int) -> Receipt:
    """
    Take the units where the stock row still has the version seen, and record the sale.

    Raises SoldOut when what was seen is not enough, LimitReached, Conflict when a
    rival was faster.
    """
    if seen.available < request.quantity:
        raise SoldOut(available=seen.available)
    quantity = request.quantity
    with connection.cursor() as cursor, timings.locking():
        cursor.execute(TAKE_AT_VERSION, [quantity, seen.product_id, seen.version, quantity])
        if not cursor.rowcount:
            raise retries.Conflict
    return ledger.record_sale(
        request,
        version=seen.version + 1,
        available_after=seen.available - request.quantity,
        attempts=attempt,
    )


async def atake_at_version(
    sale: engine.Transaction, request: PurchaseRequest, seen: Stock, attempt: int
) -> Receipt:
    """See take_at_version()."""
    if seen.available < request.quantity:
        raise SoldOut(available=seen.available)
    quantity = request.quantity
    values = [quantity, seen.product_id, seen.version, quantity]
    with timings.locking():
        if not await sale.write(TAKE_AT_VERSION, values):
            raise retries.Conflict
    orders = await ledger.aplace_orders(sale, [request], attempts=attempt)
    (receipt,) = await ledger.aclose_sales(
        sale,
        [request],
        orders,
        version=seen.version + 1,
        available_after=seen.available - quantity,
    )
    return receipt


@contextmanager
def sale_transaction() -> Iterator[None]:
    """
    Open the sale's own transaction; it refuses to nest in another.

    Raises CommitLost when the connection broke while committing, so that
    nobody can say whether the sale was made.
    """
    with _commit_watched() as commit, transaction.atomic(durable=True):
        yield
        commit.begins()


@asynccontextmanager
async def asale_transaction() -> AsyncIterator[engine.Transaction]:
    """See sale_transaction()."""
    with _commit_watched() as commit:
        async with engine.transaction() as sale:
            yield sale
            commit.begins()


class _Commit:
    begun_at: float | None = None

    def begins(self) -> None:
        self.begun_at = time.perf_counter()


@contextmanager
def _commit_watched() -> Iterator[_Commit]:
    """Tell a connection that breaks while committing from one that breaks before."""
    commit = _Commit()
    try:
        yield commit
        if commit.begun_at is not None:
            timings.add("commit", time.perf_counter() - commit.begun_at)
    except django.db.Error as error:
        if (
            commit.begun_at is not None
            and verdicts.verdict_on(error) is verdicts.Verdict.CONNECTION_LOST
        ):
            raise retries.CommitLost from error
        raise
    finally:
        timings.let_go()
