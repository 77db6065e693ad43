"""
Judging a run: what the clients saw against what the database says.

Pure: books and record in, findings and figures out. Every sale tells its stock
version, so the total order of sales is known and no search is needed.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from inventory.audit import Books, Finding, audit

SOLD = ("sold", "replayed")
REFUSED = ("sold_out", "not_open", "limit_reached")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of one buyer, as the client recorded it; moments in monotonic seconds."""

    buyer: int
    key: uuid.UUID
    quantity: int
    intended_at: float
    started_at: float
    ended_at: float
    status: int
    outcome: str
    order: uuid.UUID | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRecord:
    """All tries of a run, and how busy the generator was while it made them."""

    attempts: list[Attempt]
    generator_cpu_percent: float | None = None


def read_record(path: Path) -> ClientRecord:
    """Read what locust wrote; a line cut off by a crash is left out."""
    attempts = []
    cpu_percent = None
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        if "generator_cpu_percent" in fields:
            cpu_percent = fields["generator_cpu_percent"]
            continue
        fields["key"] = uuid.UUID(fields["key"])
        fields["order"] = uuid.UUID(fields["order"]) if fields["order"] else None
        attempts.append(Attempt(**fields))
    return ClientRecord(attempts=attempts, generator_cpu_percent=cpu_percent)


def judge(*, books: Books, attempts: list[Attempt], buyers: int, strategy: str) -> list[Finding]:
    """List all that does not fit; an empty list is a clean audit of the run."""
    return [
        *audit(books),
        *_everyone_came(attempts, buyers),
        *_everyone_was_answered(attempts),
        *_nothing_was_left(books, attempts),
        *_clients_against_orders(books, attempts),
        *_orders_against_clients(books, attempts, strategy),
        *_versions(books, attempts),
        *_real_time_order(attempts),
        *_false_sold_out(books, attempts),
    ]


def figures(*, books: Books, attempts: list[Attempt]) -> dict[str, object]:
    """Count and time what happened, per buyer; milliseconds from the intended start."""
    last = {attempt.key: attempt for attempt in attempts}
    ends = Counter(attempt.outcome for attempt in last.values())
    waits_ms = defaultdict(list)
    for attempt in last.values():
        kind = "sold" if attempt.outcome in SOLD else "refused"
        if attempt.outcome in (*SOLD, *REFUSED):
            waits_ms[kind].append(1000 * (attempt.ended_at - attempt.intended_at))
    duration_s = _selling_time_s(attempts)
    return {
        "sold": len(books.orders),
        "refused": {reason: ends[reason] for reason in REFUSED if ends[reason]},
        "busy": ends["busy"],
        "failed": ends["failed"] + ends["unknown"],
        "oversold": books.oversold(),
        "undersold": _undersold(books, last.values()),
        "duration_s": round(duration_s, 3),
        "sales_per_s": round(len(books.orders) / duration_s, 1) if duration_s else None,
        "latency_ms": {kind: _percentiles(waits_ms[kind]) for kind in ("sold", "refused")},
        "attempts_mean": round(fmean(o.attempts for o in books.orders), 2)
        if books.orders
        else None,
    }


def _selling_time_s(attempts: list[Attempt]) -> float:
    """From the first buyer's intended start to the last sale's answer."""
    sold = [attempt.ended_at for attempt in attempts if attempt.outcome in SOLD]
    return max(sold) - min(attempt.intended_at for attempt in attempts) if sold else 0.0


def _undersold(books: Books, last: Iterable[Attempt]) -> int:
    """Units left at the end although buyers of them went away without."""
    unserved = ("sold_out", "busy", "failed", "unknown")
    wanted = sum(attempt.quantity for attempt in last if attempt.outcome in unserved)
    return max(0, min(books.stock.available, wanted))


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


def _everyone_came(attempts: list[Attempt], buyers: int) -> Iterator[Finding]:
    seen = len({attempt.buyer for attempt in attempts})
    if seen != buyers:
        yield Finding(
            code="clients_incomplete",
            text=f"The clients' record has {seen} of {buyers} buyers.",
        )


def _everyone_was_answered(attempts: list[Attempt]) -> Iterator[Finding]:
    last = {attempt.key: attempt for attempt in attempts}
    without = [a for a in last.values() if a.outcome in ("failed", "unknown")]
    if without:
        yield Finding(
            code="unanswered",
            text=f"{len(without)} buyers got no definite answer (HTTP {without[0].status}).",
        )


def _nothing_was_left(books: Books, attempts: list[Attempt]) -> Iterator[Finding]:
    last = {attempt.key: attempt for attempt in attempts}
    if undersold := _undersold(books, last.values()):
        yield Finding(
            code="undersold",
            text=f"{undersold} units were left, though buyers of them went away without.",
        )


def _clients_against_orders(books: Books, attempts: list[Attempt]) -> Iterator[Finding]:
    orders = {order.key: order for order in books.orders}
    tries: dict[uuid.UUID, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        tries[attempt.key].append(attempt)
    for key, mine in tries.items():
        told = {attempt.order for attempt in mine if attempt.outcome in SOLD}
        order = orders.get(key)
        if len(told) > 1:
            yield Finding(code="replay_differs", text=f"Key {key} was told {len(told)} orders.")
        if told and (order is None or order.reference not in told):
            yield Finding(
                code="success_without_order", text=f"Key {key} was sold to, but has no such order."
            )
        if order and mine[-1].outcome not in (*SOLD, "unknown"):
            yield Finding(
                code="refused_with_order",
                text=f"Key {key} was told “{mine[-1].outcome}”, but has an order.",
            )


def _orders_against_clients(
    books: Books, attempts: list[Attempt], strategy: str
) -> Iterator[Finding]:
    keys = {attempt.key for attempt in attempts}
    for key, times in Counter(order.key for order in books.orders).items():
        if times > 1:
            yield Finding(code="client_sold_twice", text=f"Key {key} has {times} orders.")
    for order in books.orders:
        if order.key not in keys:
            yield Finding(
                code="order_without_client", text=f"Order {order.reference} was asked by no client."
            )
        if order.strategy != strategy:
            yield Finding(
                code="other_strategy", text=f"Order {order.reference} was sold by {order.strategy}."
            )


def _versions(books: Books, attempts: list[Attempt]) -> Iterator[Finding]:
    ledger = {movement.order: movement.version for movement in books.movements}
    for attempt in attempts:
        if attempt.outcome in SOLD and attempt.version != ledger.get(attempt.order):
            yield Finding(
                code="version_differs",
                text=f"Order {attempt.order} was told version {attempt.version},"
                f" the ledger has {ledger.get(attempt.order)}.",
            )


def _real_time_order(attempts: list[Attempt]) -> Iterator[Finding]:
    """A sale that ended before another began has the smaller version."""
    sales = sorted(
        (attempt.version, attempt.started_at, attempt.ended_at)
        for attempt in attempts
        if attempt.outcome == "sold" and attempt.version is not None
    )
    latest_start = float("-inf")
    for version, started_at, ended_at in sales:
        if ended_at < latest_start:
            yield Finding(
                code="out_of_order",
                text=f"Version {version} was sold before a smaller version was asked for.",
            )
        latest_start = max(latest_start, started_at)


def _false_sold_out(books: Books, attempts: list[Attempt]) -> Iterator[Finding]:
    """Nobody may be told "sold out" while enough units were there until after the answer."""
    if any(movement.kind != "sale" for movement in books.movements):
        return
    first_asked: dict[uuid.UUID, float] = {}
    for attempt in attempts:
        first_asked.setdefault(attempt.key, attempt.started_at)
    starts = {attempt.version: first_asked[attempt.key] for attempt in attempts if attempt.version}
    refusals = [attempt for attempt in attempts if attempt.outcome == "sold_out"]
    for quantity in sorted({attempt.quantity for attempt in refusals}):
        short_from = _short_from(books, quantity, starts)
        early = [r for r in refusals if r.quantity == quantity and r.ended_at < short_from]
        if early:
            yield Finding(
                code="false_sold_out",
                text=f"{len(early)} buyers of {quantity} were told “sold out” too early.",
            )


def _short_from(books: Books, quantity: int, starts: dict[int, float]) -> float:
    """The earliest moment at which fewer than `quantity` units can have been left."""
    if books.opening.available < quantity:
        return float("-inf")
    for movement in books.movements:
        if movement.available_after < quantity:
            return starts.get(movement.version, float("-inf"))
    return float("inf")
