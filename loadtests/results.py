"""What is kept of a run: its figures, the verdict on it, its costs, what it ran on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from inventory.audit import Books, Finding
from loadtests import moments, timings
from loadtests.environment import describe
from loadtests.figures import PROMISED, figures
from loadtests.models import LoadRun
from loadtests.records import ClientRecord

GENERATOR_CPU_FLAG_PERCENT = 90
MOST_FINDINGS_KEPT = 100
SPEEDS = (
    "sales_per_s",
    "duration_s",
    "accepted_per_s",
    "drain_s",
    "drained_per_s",
    "over_time",
)
"""What a run whose audit failed has none of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """All that was seen of one run, before anything is made of it."""

    books: Books
    record: ClientRecord
    findings: list[Finding]
    generator: str
    drain: dict[str, object]
    cost: dict[str, object]
    innodb: dict[str, int]
    server_started_here: bool


def result_of(run: LoadRun, observed: Observed) -> dict[str, Any]:
    """Write every figure of a run, for its row and its JSON; no speed when the audit failed."""
    cpu_percent = observed.record.generator_cpu_percent
    return {
        "strategy": run.strategy,
        "server": run.server,
        "database": run.database,
        "generator": observed.generator,
        "buyers": run.buyers,
        "concurrency": run.concurrency,
        "within_s": run.within_s,
        "units": run.units,
        **_speeds(observed),
        "audit": {
            "ok": not observed.findings,
            "total": len(observed.findings),
            "findings": [asdict(finding) for finding in observed.findings[:MOST_FINDINGS_KEPT]],
        },
        "cost": observed.cost,
        "innodb": observed.innodb,
        "timing_ms": timings.medians(
            attempt.server_timing
            for attempt in observed.record.attempts
            if attempt.outcome in PROMISED and attempt.server_timing
        ),
        "generator_cpu_percent": cpu_percent,
        "generator_saturated": cpu_percent is None or cpu_percent > GENERATOR_CPU_FLAG_PERCENT,
        "environment": describe(server_started_here=observed.server_started_here),
    }


def _speeds(observed: Observed) -> dict[str, object]:
    """Figures of the load; what was accepted counts at the speed of its acceptance."""
    attempts = observed.record.attempts
    seen = {**figures(books=observed.books, attempts=attempts), **observed.drain}
    seen["over_time"] = moments.over_time(attempts)
    if seen["accepted"]:
        seen["sales_per_s"] = seen["accepted_per_s"]
    if observed.findings:
        seen |= dict.fromkeys(SPEEDS)
    return seen
