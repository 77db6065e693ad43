from django.db.models import F
from django.utils.translation import gettext as _

from inventory import ledger
from inventory.errors import SoldOut, StrategyUnavailable
from inventory.models import Stock
from inventory.strategies.base import PurchaseRequest, Receipt, Strategy, sale_transaction


class Unguarded(Strategy):
    """
    The control: read, think, write back. It oversells, and it must.

    A load under which this one does not oversell was too weak to prove
    anything about the others. Only lab products are sold so: any other raises
    StrategyUnavailable. Raises SoldOut, LimitReached.
    """

    label = "Unguarded (control)"
    lab_only = True
    one_at_a_time = False

    def sell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """Write back what was computed from a read that may be old by then."""
        stock = Stock.objects.select_related("product").get(product_id=request.product_id)
        if not stock.product.is_lab:
            raise StrategyUnavailable(
                strategy=request.strategy, reason=_("it oversells, and this is no lab product")
            )
        if stock.available < request.quantity:
            raise SoldOut(available=stock.available)
        available_after = stock.available - request.quantity
        with sale_transaction():
            row = Stock.objects.filter(product_id=request.product_id)
            row.update(available=available_after, version=F("version") + 1)
            return ledger.record_sale(
                request,
                version=row.values_list("version", flat=True).get(),
                available_after=available_after,
                attempts=attempt,
            )
