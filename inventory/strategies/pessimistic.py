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
            seen = Stock.objects.select_for_update().get(product_id=request.product_id)
            return take_at_version(request, seen, attempt)

    async def asell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """See sell_once()."""
        async with asale_transaction() as sale:
            seen = await aread_stock(sale, request.product_id, lock=True)
            return await atake_at_version(sale, request, seen, attempt)
