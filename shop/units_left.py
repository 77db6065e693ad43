"""How many units of a product are left, asked of the database once a second by each process."""

from __future__ import annotations

from functools import partial

from inventory import counter
from inventory.crowds import Remembered
from inventory.errors import StockBusy
from inventory.models import Stock
from inventory.threads import NoThreadFree, in_thread

KEPT_S = 1.0
THREAD_WAIT_S = 3.0
_known: Remembered[int, int] = Remembered()
forget = _known.forget


def units_left(product_id: int) -> int:
    """Say how many, as they were at most about a second ago."""
    known = _known.fresh(product_id)
    return _read(product_id) if known is None else known


async def aunits_left(product_id: int) -> int:
    """See units_left(). Raises StockBusy when no thread is free to ask."""
    known = _known.fresh(product_id)
    if known is not None:
        return known
    try:
        return await in_thread(_read, THREAD_WAIT_S, product_id)
    except NoThreadFree as error:
        raise StockBusy from error


def _read(product_id: int) -> int:
    return _known.read(product_id, partial(_count, product_id), renew_s=KEPT_S)


def _count(product_id: int) -> int:
    """What the stock row has, without what the counter in Redis gave away of it already."""
    pending = counter.units_pending(product_id)  # first: they may be committed meanwhile
    units = Stock.objects.filter(pk=product_id).values_list("available", flat=True).first() or 0
    return max(0, units - pending)
