from __future__ import annotations

import time

from inventory.errors import SoldOut


class SoldOutMemory:
    """
    Repeats “sold out” from memory, so that a crowd of losers does not ask the row for it.

    It never says so for longer than `for_s` seconds after it was true, so a restock
    is on sale everywhere by then.
    """

    def __init__(self, *, for_s: float) -> None:
        self._for_s = for_s
        self._seen: dict[int, tuple[float, int]] = {}

    def check(self, product_id: int, quantity: int) -> None:
        """Raise SoldOut when fewer than `quantity` units were left a moment ago."""
        seen = self._seen.get(product_id)
        if seen is None:
            return
        as_of, available = seen
        if time.monotonic() - as_of < self._for_s and quantity > available:
            raise SoldOut(available=available)

    def remember(self, product_id: int, available: int, *, as_of: float) -> None:
        """Keep how many units were left at or after `as_of` (time.monotonic, s)."""
        self._seen[product_id] = (as_of, available)

    def forget(self) -> None:
        """Know nothing."""
        self._seen.clear()
