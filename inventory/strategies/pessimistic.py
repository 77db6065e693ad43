from functools import cache

from django.db import connection

from inventory import timings
from inventory.models import Stock
from inventory.strategies.base import (
    PurchaseRequest,
    Receipt,
    Strategy,
    aread_stock,
    asale_transaction,
    atake_at_version,
    sale_transaction,
    take_at_version,
)


class Pessimistic(Strategy):
    """
    Lock the stock row, decide from what it says, write.

    Buyers queue in the database, so nobody retries; the queue is the price.
    The wait ends after innodb_lock_wait_timeout (3 s), twice, in StockBusy.
    Raises SoldOut, LimitReached.
    """

    label = "Pessimistic lock"
    needs_row_locks = True

    def sell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """Hold the row from the read to the commit."""
        with sale_transaction():
            seen = _lock_stock(request.product_id)
            return take_at_version(request, seen, attempt)

    async def asell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """See sell_once()."""
        async with asale_transaction() as sale:
            seen = await aread_stock(sale, request.product_id, lock=True)
            return await atake_at_version(sale, request, seen, attempt)


def _lock_stock(product_id: int) -> Stock:
    with connection.cursor() as cursor, timings.locking():
        cursor.execute(_lock_statement(), [product_id])
        available, version = cursor.fetchone() or (0, 0)
    return Stock(product_id=product_id, available=available, version=version)


@cache
def _lock_statement() -> str:
    """Compile select_for_update() once: it takes longer than the row stays locked."""
    row = Stock.objects.select_for_update().filter(product_id=0)
    return row.values_list("available", "version").query.sql_with_params()[0]
