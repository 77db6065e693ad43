"""
Judging a run: what the clients saw against what the database says.

Pure: books and record in, findings out. Every sale tells its stock version, so
the total order of sales is known and no search is needed.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator

from inventory.audit import Books, Finding, audit
from loadtests.figures import undersold
from loadtests.records import ACCEPTED, SOLD, Attempt


def judge(*, books: Books, attempts: list[Attempt], buyers: int, strategy: str) -> list[Finding]:
    """List all that does not fit; an empty list is a clean audit of the run."""
    return [
        *audit(books),
        *_everyone_came(attempts, buyers),
        *_everyone_was_answered(attempts),
        *_nothing_was_left(books, attempts),
        *_clients_against_orders(books, attempts),
        *_accepted_against_orders(books, attempts),
        *_orders_against_clients(books, attempts, strategy),
        *_versions(books, attempts),
        *_real_time_order(attempts),
        *_false_sold_out(books, attempts),
    ]


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
    if left := undersold(books, last.values()):
        yield Finding(
            code="undersold",
            text=f"{left} units were left, though buyers of them went away without.",
        )


def _clients_against_orders(books: Books, attempts: list[Attempt]) -> Iterator[Finding]:
    orders = {order.key: order for order in books.orders}
    tries: dict[uuid.UUID, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        tries[attempt.key].append(attempt)
    for key, mine in tries.items():
        told = {attempt.order for attempt in mine if attempt.outcome in (*SOLD, ACCEPTED)}
        sold = any(attempt.outcome in SOLD for attempt in mine)
        order = orders.get(key)
        if len(told) > 1:
            yield Finding(code="replay_differs", text=f"Key {key} was told {len(told)} orders.")
        if sold and (order is None or order.reference not in told):
            yield Finding(
                code="success_without_order", text=f"Key {key} was sold to, but has no such order."
            )
        if order and mine[-1].outcome not in (*SOLD, ACCEPTED, "unknown"):
            yield Finding(
                code="refused_with_order",
                text=f"Key {key} was told “{mine[-1].outcome}”, but has an order.",
            )


def _accepted_against_orders(books: Books, attempts: list[Attempt]) -> Iterator[Finding]:
    """Every promise was kept by the time all was drained, with the order it named."""
    orders = {order.key: order.reference for order in books.orders}
    promises = {a.key: a.order for a in attempts if a.outcome == ACCEPTED}
    for key, promised in promises.items():
        if key not in orders:
            yield Finding(
                code="accepted_without_order", text=f"Key {key} was accepted, but has no order."
            )
        elif orders[key] != promised:
            yield Finding(
                code="accepted_other_order",
                text=f"Key {key} was promised order {promised}, but has {orders[key]}.",
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
    ledger = {sale.order: sale.version for sale in books.sales()}
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
    if len(books.sales()) + len(books.returns()) != len(books.movements):
        return
    refusals = [attempt for attempt in attempts if attempt.outcome == "sold_out"]
    for quantity in sorted({attempt.quantity for attempt in refusals}):
        short_from = _short_from(books, quantity, attempts)
        early = [r for r in refusals if r.quantity == quantity and r.ended_at < short_from]
        if early:
            yield Finding(
                code="false_sold_out",
                text=f"{len(early)} buyers of {quantity} were told “sold out” too early.",
            )


def _short_from(books: Books, quantity: int, attempts: list[Attempt]) -> float:
    """The earliest moment at which fewer than `quantity` units can have been left."""
    first_asked: dict[uuid.UUID, float] = {}
    for attempt in attempts:
        first_asked.setdefault(attempt.key, attempt.started_at)
    if books.opening.available < quantity:
        return float("-inf")
    if any(attempt.outcome == ACCEPTED for attempt in attempts):
        return _asked_away_from(books, quantity, first_asked)
    starts = {attempt.version: first_asked[attempt.key] for attempt in attempts if attempt.version}
    for movement in books.movements:
        if movement.available_after < quantity:
            return starts.get(movement.version, float("-inf"))
    return float("inf")


def _asked_away_from(books: Books, quantity: int, first_asked: dict[uuid.UUID, float]) -> float:
    """
    The same where units are promised first and written later, in any order.

    The k-th unit cannot have been promised before k units had been asked for.
    """
    left = books.opening.available
    asked = ((first_asked.get(o.key, float("-inf")), o.quantity) for o in books.orders)
    for started_at, units in sorted(asked):
        left -= units
        if left < quantity:
            return started_at
    return float("inf")
