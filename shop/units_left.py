"""How many units of a product are left, asked of the database once a second by each process."""

from __future__ import annotations

import time

from inventory import counter
from inventory.errors import StockBusy
from inventory.models import Stock
from inventory.threads import NoThreadFree, in_thread

KEPT_S = 1.0
THREAD_WAIT_S = 3.0
_known: dict[int, tuple[float, int]] = {}


def units_left(product_id: int) -> int:
    """Say how many, as they were at most about a second ago."""
    known = _fresh(product_id)
    return _read(product_id) if known is None else known


async def aunits_left(product_id: int) -> int:
    """See units_left(). Raises StockBusy when no thread is free to ask."""
    known = _fresh(product_id)
    if known is not None:
        return known
    try:
        return await in_thread(_read, THREAD_WAIT_S, product_id)
    except NoThreadFree as error:
        raise StockBusy from error


def forget() -> None:
    """Ask anew from here on."""
    _known.clear()


def _fresh(product_id: int) -> int | None:
    """What is known; once a second None for one caller, who asks for all."""
    read_at, units = _known.get(product_id, (0.0, None))
    now = time.monotonic()
    if units is None or now - read_at < KEPT_S:
        return units
    _known[product_id] = (now, units)
    return None


def _read(product_id: int) -> int:
    """What the stock row has, without what the counter in Redis gave away of it already."""
    read_at = time.monotonic()
    pending = counter.units_pending(product_id)  # first: they may be committed meanwhile
    units = Stock.objects.filter(pk=product_id).values_list("available", flat=True).first() or 0
    units = max(0, units - pending)
    _known[product_id] = (read_at, units)
    return units
