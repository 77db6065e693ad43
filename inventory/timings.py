"""Where a purchase's time went, for whoever collects it; next to nothing when nobody does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_collected: ContextVar[Timings | None] = ContextVar("timings", default=None)


class Timings:
    """
    What one purchase spent, in seconds: `queue` before its turn, `lock` until the row
    (or the lock in Redis) was its own, `hold` from then until the commit was through,
    `commit` of that; and its attempts. One sold to by another's transaction has only
    the queue.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.attempts = 0
        self.locked_at: float | None = None

    def add(self, name: str, seconds: float) -> None:
        """Spend more on `name`."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


@contextmanager
def collected() -> Iterator[Timings]:
    """Collect the timings of the purchase made in the block."""
    timings = Timings()
    token = _collected.set(timings)
    try:
        yield timings
    finally:
        _collected.reset(token)


@contextmanager
def span(name: str) -> Iterator[None]:
    """Time the block as `name`."""
    timings = _collected.get()
    if timings is None:
        yield
        return
    begun_at = time.perf_counter()
    try:
        yield
    finally:
        timings.add(name, time.perf_counter() - begun_at)


def add(name: str, seconds: float) -> None:
    """Spend more on `name`."""
    timings = _collected.get()
    if timings is not None:
        timings.add(name, seconds)


@contextmanager
def locking() -> Iterator[None]:
    """Time the block as `lock`; at its end the row is held, unless it was before."""
    timings = _collected.get()
    if timings is None:
        yield
        return
    with span("lock"):
        yield
    if timings.locked_at is None:
        timings.locked_at = time.perf_counter()


def attempt() -> None:
    """Count one more transaction."""
    timings = _collected.get()
    if timings is not None:
        timings.attempts += 1
        timings.locked_at = None


def let_go() -> None:
    """Note that the row is held no longer."""
    timings = _collected.get()
    if timings is not None and timings.locked_at is not None:
        timings.add("hold", time.perf_counter() - timings.locked_at)
        timings.locked_at = None
