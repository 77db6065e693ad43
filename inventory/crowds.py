"""What a crowd asks for: read by one of it, known to all."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    renew_s: float
    renew_at: float
    stale_at: float


class Remembered(Generic[K, V]):
    """
    What this process read of each key a moment ago.

    One caller is sent to read anew before that is stale, and the others go on with what is
    known: a thousand do not ask the database at once.
    """

    def __init__(self) -> None:
        self._entries: dict[K, _Entry[V]] = {}

    def fresh(self, key: K) -> V | None:
        """What is known; None for the caller who is to read it."""
        entry = self._entries.get(key)
        now = time.monotonic()
        if entry is None or now >= entry.stale_at:
            return None
        if now >= entry.renew_at:
            entry.renew_at = now + entry.renew_s
            return None
        return entry.value

    def read(self, key: K, how: Callable[[], V], *, renew_s: float, stale_s: float = math.inf) -> V:
        """Read it and keep it, as old as the beginning of the reading."""
        read_at = time.monotonic()
        value = how()
        self._entries[key] = _Entry(value, renew_s, read_at + renew_s, read_at + stale_s)
        return value

    def forget(self) -> None:
        """Have everything read anew."""
        self._entries.clear()
