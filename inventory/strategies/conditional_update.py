from django.db import connection

from inventory import ledger
from inventory.errors import SoldOut
from inventory.strategies.base import (
    PurchaseRequest,
    Receipt,
    Strategy,
    read_stock,
    sale_transaction,
)

# Arguments: quantity, product, quantity. One row is written, or none when too few are left.
TAKE_UNITS = """
UPDATE inventory_stock SET available = available - %s, version = version + 1
WHERE product_id = %s AND available >= %s
"""


class ConditionalUpdate(Strategy):
    """
    Take the units in one guarded UPDATE: no read before it, no retry.

    The database decides and counts in the same statement. The order is written
    before it, so that the row stays locked for as little as possible; who comes
    too late takes the order back. Raises SoldOut.
    """

    label = "Conditional update"

    def sell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """Write where enough is available; the row count is the answer."""
        product, quantity = request.product_id, request.quantity
        with sale_transaction(), connection.cursor() as cursor:
            order = ledger.place_order(request, attempts=attempt)
            cursor.execute(TAKE_UNITS, [quantity, product, quantity])
            written = cursor.rowcount
            stock = read_stock(product)
            if not written:
                raise SoldOut(available=stock.available)
            return ledger.record_movement(
                order, version=stock.version, available_after=stock.available
            )
