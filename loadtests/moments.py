"""A run over time: how many buyers were answered in each slice of it, and with what."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import Any

from loadtests.figures import PROMISED
from loadtests.records import REFUSED, Attempt

MOST_SLICES = 120
SLICES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
"""Lengths that read well; a run too long for the last gets a multiple of it."""
KINDS = dict.fromkeys(PROMISED, "sold") | dict.fromkeys(REFUSED, "refused") | {"busy": "busy"}


def over_time(attempts: Iterable[Attempt]) -> dict[str, Any]:
    """
    Count each buyer's last answer in the slice it came in; `slice_s` is their length in seconds.

    Time begins at the first intended start. At most MOST_SLICES; none without answers.
    """
    attempts = list(attempts)
    last = {attempt.key: attempt for attempt in attempts}
    ends = [(each.ended_at, KINDS[each.outcome]) for each in last.values() if each.outcome in KINDS]
    if not ends:
        return {"slice_s": SLICES_S[0], "sold": [], "refused": [], "busy": []}
    begun_at = min(attempt.intended_at for attempt in attempts)
    slice_s = slice_for(max(at for at, _ in ends) - begun_at)
    places = [(int((at - begun_at) / slice_s), kind) for at, kind in ends]
    length = max(place for place, _ in places) + 1
    counts = {kind: [0] * min(length, MOST_SLICES) for kind in ("sold", "refused", "busy")}
    for place, kind in places:
        counts[kind][min(place, MOST_SLICES - 1)] += 1
    return {"slice_s": slice_s, **counts}


def slice_for(duration_s: float) -> float:
    """Give the shortest slice of which MOST_SLICES cover the duration."""
    for slice_s in SLICES_S:
        if duration_s <= slice_s * MOST_SLICES:
            return slice_s
    return SLICES_S[-1] * ceil(duration_s / (SLICES_S[-1] * MOST_SLICES))
