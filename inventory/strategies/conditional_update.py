from inventory import ledger
from inventory.errors import SoldOut
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


class ConditionalUpdate(Strategy):
    """
    Take the units in one guarded UPDATE: no read before it, no retry.

    The database decides and counts in the same statement. The order is written
    before it, so that the row stays locked for as little as possible; who comes
    too late takes the order back. Raises SoldOut, LimitReached.
    """

    label = "Conditional update"

    def sell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """Write where enough is available; the row count is the answer."""
        with sale_transaction():
            orders = ledger.place_orders([request], attempts=attempt)
            taken = take_units(request.product_id, request.quantity)
            stock = read_stock(request.product_id)
            if not taken:
                raise SoldOut(available=stock.available)
            (receipt,) = ledger.close_sales(
                [request], orders, version=stock.version, available_after=stock.available
            )
            return receipt

    async def asell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """See sell_once()."""
        async with asale_transaction() as sale:
            orders = await ledger.aplace_orders(sale, [request], attempts=attempt)
            taken = await atake_units(sale, request.product_id, request.quantity)
            stock = await aread_stock(sale, request.product_id)
            if not taken:
                raise SoldOut(available=stock.available)
            (receipt,) = await ledger.aclose_sales(
                sale, [request], orders, version=stock.version, available_after=stock.available
            )
            return receipt
