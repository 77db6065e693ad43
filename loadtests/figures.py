"""The figures of a run: counted per buyer, timed from the intended start."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable
from statistics import fmean

from inventory.audit import Books
from loadtests.records import ACCEPTED, REFUSED, SOLD, Attempt

PROMISED = (*SOLD, ACCEPTED)


def figures(*, books: Books, attempts: list[Attempt]) -> dict[str, object]:
    """Count and time what happened, per buyer; milliseconds from the intended start."""
    last = {attempt.key: attempt for attempt in attempts}
    ends = Counter(attempt.outcome for attempt in last.values())
    waits_ms = defaultdict(list)
    for attempt in last.values():
        kind = "sold" if attempt.outcome in PROMISED else "refused"
        if attempt.outcome in (*PROMISED, *REFUSED):
            waits_ms[kind].append(1000 * (attempt.ended_at - attempt.intended_at))
    duration_s = _selling_time_s(attempts, PROMISED)
    accepted = sum(ACCEPTED in outcomes for outcomes in _outcomes_by_key(attempts).values())
    accepting_s = _selling_time_s(attempts, (ACCEPTED,))
    return {
        "sold": len(books.orders),
        "accepted": accepted,
        "accepted_per_s": round(accepted / accepting_s, 1) if accepting_s else None,
        "refused": {reason: ends[reason] for reason in REFUSED if ends[reason]},
        "busy": ends["busy"],
        "failed": ends["failed"] + ends["unknown"],
        "oversold": books.oversold(),
        "undersold": undersold(books, last.values()),
        "duration_s": round(duration_s, 3),
        "sales_per_s": round(len(books.orders) / duration_s, 1) if duration_s else None,
        "latency_ms": {kind: _percentiles(waits_ms[kind]) for kind in ("sold", "refused")},
        "attempts_mean": round(fmean(o.attempts for o in books.orders), 2)
        if books.orders
        else None,
    }


def _selling_time_s(attempts: list[Attempt], outcomes: tuple[str, ...]) -> float:
    """From the first buyer's intended start to the last answer that promised a unit."""
    promised = [attempt.ended_at for attempt in attempts if attempt.outcome in outcomes]
    return max(promised) - min(attempt.intended_at for attempt in attempts) if promised else 0.0


def _outcomes_by_key(attempts: list[Attempt]) -> dict[uuid.UUID, set[str]]:
    told = defaultdict(set)
    for attempt in attempts:
        told[attempt.key].add(attempt.outcome)
    return told


def undersold(books: Books, last: Iterable[Attempt]) -> int:
    """Units left at the end, not given back, although buyers of them went away without."""
    unserved = ("sold_out", "busy", "failed", "unknown")
    wanted = sum(attempt.quantity for attempt in last if attempt.outcome in unserved)
    given_back = sum(movement.delta for movement in books.returns())
    return max(0, min(books.stock.available - given_back, wanted))


def _percentiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    ordered = sorted(values)
    ranks = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "max": 1.0}
    last = len(ordered) - 1
    return {
        name: round(ordered[min(last, max(0, -int(-share * len(ordered) // 1) - 1))], 1)
        for name, share in ranks.items()
    }
