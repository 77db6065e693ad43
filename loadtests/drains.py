"""Waiting until what was accepted is written."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

DRAIN_WITHIN_S = 60.0
LOOK_AGAIN_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """How the accepted purchases of a run reached the database, once no more were coming."""

    pending: int
    """At the end of the load."""
    drained: bool
    seconds: float
    """From the last acceptance."""
    per_s: float | None
    """What was pending, by the time it took; None when nothing was."""

    def figures(self) -> dict[str, object]:
        """As in a run's result; without a time when it did not end."""
        return {
            "drain_s": round(self.seconds, 3) if self.drained else None,
            "drained_per_s": round(self.per_s, 1) if self.per_s and self.drained else None,
        }


def wait_until_drained(
    pending: Callable[[], int], *, since: float, within_s: float = DRAIN_WITHIN_S
) -> Drain:
    """
    Ask `pending` until it says 0, for `within_s` at most.

    `since` is the moment of the last acceptance, of time.monotonic().
    """
    begun_at = time.monotonic()
    first = left = pending()
    while left and time.monotonic() < begun_at + within_s:
        time.sleep(LOOK_AGAIN_S)
        left = pending()
    ended_at = time.monotonic()
    return Drain(
        pending=first,
        drained=left == 0,
        seconds=ended_at - since,
        per_s=first / (ended_at - begun_at) if first else None,
    )
