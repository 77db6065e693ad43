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


class Optimistic(Strategy):
    """
    Read without a lock; write only if the version has not moved since.

    A buyer who lost the race starts again in a fresh transaction after a random
    pause, until sold out or the time budget (4 s) ends in StockBusy. Cheap when
    buyers are few; under a crowd most work is thrown away. Raises SoldOut, LimitReached.
    """

    label = "Optimistic lock"

    def sell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """Read, decide, and write where the version is still the one read."""
        seen = read_stock(request.product_id)
        with sale_transaction():
            return take_at_version(request, seen, attempt)

    async def asell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """See sell_once()."""
        async with asale_transaction() as sale:
            seen = await aread_stock(sale, request.product_id)
            return await atake_at_version(sale, request, seen, attempt)
