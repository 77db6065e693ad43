"""Waiting until what was accepted is written, and how long that took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

DRAIN_WITHIN_S = 60.0
LOOK_AGAIN_S = 0.02


def wait_until_drained(pending: Callable[[], int], *, within_s: float = DRAIN_WITHIN_S) -> bool:
    """Ask `pending` until it says 0, for `within_s` at most; say whether it did."""
    deadline = time.monotonic() + within_s
    while pending():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_AGAIN_S)
    return True


def drain_figures(written_at: Iterable[float], *, last_accepted_at: float) -> dict[str, object]:
    """
    How long after the last acceptance the last order was written, and how fast until then.

    Moments in seconds of one clock. Nothing written after it took no time and has no speed.
    """
    late = [moment for moment in written_at if moment > last_accepted_at]
    seconds = max(late) - last_accepted_at if late else 0.0
    return {
        "drain_s": round(seconds, 3),
        "drained_per_s": round(len(late) / seconds, 1) if late else None,
    }
