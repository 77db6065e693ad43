"""Judging hand-made histories: good ones pass, and each kind of bad one is named."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from inventory.audit import Books, MovementLine, OrderLine, Snapshot, audit
from loadtests.figures import figures
from loadtests.outcomes import judge
from loadtests.records import Attempt, read_record

UNITS = 3
BUYERS = 5


class History:
    """A good run to spoil: 3 units, 5 buyers one after another, the last two sold out."""

    def __init__(self) -> None:
        self.opening = Snapshot(available=UNITS, version=7)
        self.stock = Snapshot(available=0, version=7 + UNITS)
        self.movements: list[MovementLine] = []
        self.orders: list[OrderLine] = []
        self.attempts: list[Attempt] = []
        for number in range(BUYERS):
            key, order = uuid.UUID(int=number), uuid.UUID(int=100 + number)
            sold = number < UNITS
            self.attempts.append(
                Attempt(
                    buyer=number,
                    key=key,
                    quantity=1,
                    intended_at=float(number),
                    started_at=number + 0.1,
                    ended_at=number + 0.5,
                    status=201 if sold else 409,
                    outcome="sold" if sold else "sold_out",
                    order=order if sold else None,
                    version=8 + number if sold else None,
                )
            )
            if sold:
                self.orders.append(
                    OrderLine(
                        reference=order,
                        buyer="guest:ada",
                        key=key,
                        quantity=1,
                        strategy="optimistic",
                        attempts=1,
                    )
                )
                self.movements.append(
                    MovementLine(
                        version=8 + number,
                        kind="sale",
                        delta=-1,
                        available_after=UNITS - 1 - number,
                        order=order,
                    )
                )

    def books(self) -> Books:
        return Books(
            opening=self.opening, stock=self.stock, movements=self.movements, orders=self.orders
        )

    def codes(self) -> set[str]:
        findings = judge(
            books=self.books(), attempts=self.attempts, buyers=BUYERS, strategy="optimistic"
        )
        return {finding.code for finding in findings}

    def change(self, row: int, **fields: object) -> None:
        self.attempts[row] = replace(self.attempts[row], **fields)  # type: ignore[arg-type]  # by name

    def told(self, row: int, outcome: str) -> None:
        """Let the buyer have been told something else than “sold”."""
        self.change(row, outcome=outcome, order=None, version=None)

    def accepts(self) -> None:
        """Let every buyer who got a unit have been promised it, without a version."""
        for row in range(UNITS):
            self.change(row, outcome="accepted", status=202, version=None)

    def opens(self, available: int, *, version: int) -> None:
        self.opening = Snapshot(available=available, version=version)

    def ends(self, available: int, *, version: int) -> None:
        self.stock = Snapshot(available=available, version=version)

    def gives_back(self, row: int, kind: str = "expiry", *, delta: int = 1) -> None:
        """Let an order be called off after the sale was over, its units back on sale."""
        version, left = self.stock.version + 1, self.stock.available + delta
        self.movements.append(
            MovementLine(
                version=version,
                kind=kind,
                delta=delta,
                available_after=left,
                order=self.orders[row].reference,
            )
        )
        self.change_order(row, status={"expiry": "expired"}.get(kind, "cancelled"))
        self.ends(left, version=version)

    def change_movement(self, row: int, **fields: object) -> None:
        self.movements[row] = replace(self.movements[row], **fields)  # type: ignore[arg-type]  # by name

    def change_order(self, row: int, **fields: object) -> None:
        self.orders[row] = replace(self.orders[row], **fields)  # type: ignore[arg-type]  # by name


Spoil = Callable[[History], object]
BAD: list[tuple[str, str, Spoil]] = [
    ("a unit appears", "available_differs", lambda h: h.ends(1, version=10)),
    ("a unit vanishes", "available_negative", lambda h: h.ends(-1, version=10)),
    ("a write without a movement", "writes_differ", lambda h: h.ends(0, version=11)),
    ("a movement without a write", "writes_differ", lambda h: h.ends(0, version=9)),
    ("the first movement is lost", "version_gap", lambda h: h.movements.pop(0)),
    ("the middle movement is lost", "version_gap", lambda h: h.movements.pop(1)),
    ("the last movement is lost", "writes_differ", lambda h: h.movements.pop()),
    ("a movement is lost, its order stays", "order_without_sale", lambda h: h.movements.pop()),
    ("a version is skipped", "version_gap", lambda h: h.change_movement(2, version=11)),
    ("a version is used twice", "version_gap", lambda h: h.change_movement(1, version=8)),
    ("a movement took nothing", "chain_broken", lambda h: h.change_movement(1, delta=0)),
    ("a movement took two", "quantity_differs", lambda h: h.change_movement(1, delta=-2)),
    (
        "a lost update in the ledger",
        "chain_broken",
        lambda h: h.change_movement(1, available_after=2),
    ),
    (
        "the ledger goes below zero",
        "chain_broken",
        lambda h: h.change_movement(2, available_after=-1),
    ),
    ("an order is lost", "sale_without_order", lambda h: h.orders.pop(0)),
    ("an order is lost, its buyer was told", "success_without_order", lambda h: h.orders.pop(0)),
    ("an order for more than it took", "quantity_differs", lambda h: h.change_order(0, quantity=2)),
    ("more promised than there was", "oversold", lambda h: h.change_order(0, quantity=2)),
    (
        "an order sold twice",
        "order_sold_twice",
        lambda h: h.change_movement(1, order=uuid.UUID(int=100)),
    ),
    ("a key with two orders", "key_sold_twice", lambda h: h.change_order(1, key=uuid.UUID(int=0))),
    ("a sale of nobody's order", "sale_without_order", lambda h: h.change_movement(0, order=None)),
    (
        "an order of nobody's key",
        "order_without_client",
        lambda h: h.change_order(0, key=uuid.uuid4()),
    ),
    ("another strategy sold", "other_strategy", lambda h: h.change_order(0, strategy="unguarded")),
    (
        "told sold, was not",
        "success_without_order",
        lambda h: h.change(4, outcome="sold", order=uuid.uuid4(), version=11),
    ),
    (
        "told replayed, was not",
        "success_without_order",
        lambda h: h.change(4, outcome="replayed", order=uuid.uuid4(), version=11),
    ),
    (
        "told another's order",
        "success_without_order",
        lambda h: h.change(0, order=uuid.UUID(int=101)),
    ),
    ("told another version", "version_differs", lambda h: h.change(0, version=9)),
    ("told no version", "version_differs", lambda h: h.change(0, version=None)),
    ("told sold out, was sold", "refused_with_order", lambda h: h.told(0, "sold_out")),
    ("told busy, was sold", "refused_with_order", lambda h: h.told(1, "busy")),
    ("told failed, was sold", "refused_with_order", lambda h: h.told(2, "failed")),
    ("told not open, was sold", "refused_with_order", lambda h: h.told(0, "not_open")),
    (
        "a replay with another order",
        "replay_differs",
        lambda h: h.attempts.append(replace(h.attempts[0], outcome="replayed", order=uuid.uuid4())),
    ),
    ("a client is missing", "clients_incomplete", lambda h: h.attempts.pop()),
    ("the client of a sale is missing", "order_without_client", lambda h: h.attempts.pop(0)),
    (
        "a client too many",
        "clients_incomplete",
        lambda h: h.attempts.append(replace(h.attempts[4], buyer=9, key=uuid.uuid4())),
    ),
    ("no client wrote anything", "clients_incomplete", lambda h: h.attempts.clear()),
    (
        "later sale, smaller version",
        "out_of_order",
        lambda h: (h.change(0, version=9), h.change(1, version=8)),
    ),
    ("last sale, first version", "out_of_order", lambda h: h.change(2, version=7)),
    ("first sale, last version", "out_of_order", lambda h: h.change(0, version=99)),
    (
        "sold out before the first sale",
        "false_sold_out",
        lambda h: h.change(3, started_at=-2.0, ended_at=-1.0),
    ),
    (
        "sold out between the sales",
        "false_sold_out",
        lambda h: h.change(3, started_at=1.55, ended_at=1.6),
    ),
    (
        "sold out just before the last unit was asked for",
        "false_sold_out",
        lambda h: h.change(4, started_at=2.0, ended_at=2.05),
    ),
    (
        "sold out with units to the end",
        "false_sold_out",
        lambda h: (h.ends(1, version=9), h.orders.pop(), h.movements.pop(), h.told(2, "busy")),
    ),
    (
        "everything sold out, nothing sold",
        "false_sold_out",
        lambda h: (
            h.ends(UNITS, version=7),
            h.orders.clear(),
            h.movements.clear(),
            [h.told(n, "sold_out") for n in range(3)],
        ),
    ),
    ("the stock row was replaced", "writes_differ", lambda h: h.ends(0, version=1)),
    ("the opening was forged upwards", "available_differs", lambda h: h.opens(4, version=7)),
    ("the opening was forged downwards", "oversold", lambda h: h.opens(2, version=7)),
    ("the opening version was forged", "version_gap", lambda h: h.opens(3, version=6)),
    ("all movements are lost", "order_without_sale", lambda h: h.movements.clear()),
    ("all orders are lost", "sale_without_order", lambda h: h.orders.clear()),
    ("a buyer got an error", "unanswered", lambda h: h.told(4, "failed")),
    ("a buyer got no answer", "unanswered", lambda h: h.told(4, "unknown")),
    ("nobody got an answer", "unanswered", lambda h: [h.told(n, "failed") for n in range(5)]),
    ("units left, buyers busy", "undersold", lambda h: (h.ends(1, version=9), h.told(2, "busy"))),
    (
        "a lost answer, then busy, yet sold",
        "refused_with_order",
        lambda h: (
            h.told(1, "unknown"),
            h.attempts.append(replace(h.attempts[1], outcome="busy")),
        ),
    ),
    (
        "a restock that is not in the count",
        "available_differs",
        lambda h: (
            h.movements.append(
                MovementLine(version=11, kind="restock", delta=5, available_after=5, order=None)
            ),
            h.ends(0, version=11),
        ),
    ),
    (
        "a sale recorded as a restock",
        "order_without_sale",
        lambda h: h.change_movement(0, kind="restock", order=None),
    ),
]


BAD_RETURNS: list[tuple[str, str, Spoil]] = [
    ("called off, units kept", "not_returned", lambda h: h.change_order(0, status="expired")),
    ("cancelled, units kept", "not_returned", lambda h: h.change_order(0, status="cancelled")),
    (
        "given back twice",
        "returned_twice",
        lambda h: (h.gives_back(0), h.gives_back(0)),
    ),
    (
        "given back, and paid",
        "returned_but_kept",
        lambda h: (h.gives_back(0), h.change_order(0, status="paid")),
    ),
    (
        "given back, and still held",
        "returned_but_kept",
        lambda h: (h.gives_back(0), h.change_order(0, status="held")),
    ),
    (
        "expired, recorded as cancelled",
        "returned_but_kept",
        lambda h: (h.gives_back(0), h.change_order(0, status="cancelled")),
    ),
    ("more given back than bought", "return_differs", lambda h: h.gives_back(0, delta=2)),
    (
        "a return of nobody's order",
        "return_without_order",
        lambda h: (h.gives_back(0), h.change_movement(3, order=None)),
    ),
    (
        "sold out too early, and given back later",
        "false_sold_out",
        lambda h: (h.gives_back(0), h.change(3, started_at=-2.0, ended_at=-1.0)),
    ),
    (
        "a sale told another version, and given back",
        "version_differs",
        lambda h: (h.gives_back(0), h.change(0, version=11)),
    ),
]


BAD_PROMISES: list[tuple[str, str, Spoil]] = [
    ("accepted, never written", "accepted_without_order", lambda h: h.orders.pop()),
    (
        "accepted after the last unit",
        "accepted_without_order",
        lambda h: h.change(4, outcome="accepted", order=uuid.uuid4()),
    ),
    ("accepted, nothing drained", "accepted_without_order", lambda h: h.orders.clear()),
    (
        "accepted as another order",
        "accepted_other_order",
        lambda h: h.change_order(0, reference=uuid.uuid4()),
    ),
    (
        "promised another's order",
        "accepted_other_order",
        lambda h: h.change(0, order=uuid.UUID(int=101)),
    ),
    (
        "accepted, then another order told",
        "replay_differs",
        lambda h: h.attempts.append(
            replace(h.attempts[0], outcome="replayed", order=uuid.uuid4(), version=8)
        ),
    ),
    (
        "accepted, then told sold out, yet written",
        "refused_with_order",
        lambda h: h.attempts.append(replace(h.attempts[0], outcome="sold_out", order=None)),
    ),
    (
        "sold out before as many had asked",
        "false_sold_out",
        lambda h: h.change(3, started_at=1.0, ended_at=1.9),
    ),
    (
        "sold out with units to the end, others accepted",
        "false_sold_out",
        lambda h: (h.ends(1, version=9), h.orders.pop(), h.movements.pop(), h.told(2, "busy")),
    ),
]


def test_a_good_history_has_no_finding() -> None:
    assert History().codes() == set()


def test_a_good_history_of_promises_has_no_finding() -> None:
    history = History()
    history.accepts()
    assert history.codes() == set()


@pytest.mark.parametrize(
    ("code", "spoil"), [(c, s) for _, c, s in BAD_PROMISES], ids=[n for n, _, _ in BAD_PROMISES]
)
def test_a_bad_promise_is_named(code: str, spoil: Spoil) -> None:
    history = History()
    history.accepts()
    spoil(history)
    assert code in history.codes()


def test_promises_may_be_written_in_any_order() -> None:
    history = History()
    history.accepts()
    history.change_movement(0, order=uuid.UUID(int=102))
    history.change_movement(2, order=uuid.UUID(int=100))
    assert history.codes() == set(), "nobody was told a version, so no order is broken"


def test_sold_out_while_the_last_promise_was_being_made_is_no_finding() -> None:
    history = History()
    history.accepts()
    history.change_movement(0, order=uuid.UUID(int=102))
    history.change_movement(2, order=uuid.UUID(int=100))
    history.change(3, started_at=2.05, ended_at=2.15)
    assert history.codes() == set(), "the third unit may have been promised from 2.1 s on"


def test_a_promise_found_again_as_a_sale_is_no_finding() -> None:
    history = History()
    history.accepts()
    history.attempts.append(replace(history.attempts[0], outcome="replayed", version=8))
    assert history.codes() == set()


@pytest.mark.parametrize(
    ("code", "spoil"),
    [(c, s) for _, c, s in [*BAD, *BAD_RETURNS]],
    ids=[n for n, _, _ in [*BAD, *BAD_RETURNS]],
)
def test_a_bad_history_is_named(code: str, spoil: Spoil) -> None:
    history = History()
    spoil(history)
    assert code in history.codes()


def test_an_unknown_outcome_may_or_may_not_have_an_order() -> None:
    history = History()
    history.told(0, "unknown")
    history.told(4, "unknown")
    assert history.codes() == {"unanswered"}


def test_overlapping_sales_may_commit_in_any_order() -> None:
    history = History()
    history.change(0, ended_at=10.0, version=9, order=uuid.UUID(int=101))
    history.change(1, version=8, order=uuid.UUID(int=100))
    history.change_order(0, key=uuid.UUID(int=1))
    history.change_order(1, key=uuid.UUID(int=0))
    assert history.codes() == set()


def test_a_replay_after_a_lost_answer_is_no_finding() -> None:
    history = History()
    lost = replace(history.attempts[2], outcome="unknown", order=None, version=None, status=0)
    found = replace(history.attempts[2], outcome="replayed", started_at=9.0, ended_at=9.5)
    history.attempts[2:3] = [lost, found]
    assert history.codes() == set(), "the unit was gone from the first try on"


def test_a_restock_during_the_run_is_no_oversell() -> None:
    history = History()
    history.opening = Snapshot(available=2, version=7)
    history.movements = [
        MovementLine(version=8, kind="restock", delta=1, available_after=3, order=None),
        *(replace(m, version=m.version + 1) for m in history.movements),
    ]
    history.attempts = [replace(a, version=a.version and a.version + 1) for a in history.attempts]
    history.stock = Snapshot(available=0, version=11)
    assert history.codes() == set()
    assert audit(history.books()) == []


@pytest.mark.parametrize("kind", ["expiry", "cancellation"])
def test_a_unit_given_back_after_the_sale_is_no_finding(kind: str) -> None:
    history = History()
    history.gives_back(0, kind)

    seen = figures(books=history.books(), attempts=history.attempts)

    assert history.codes() == set()
    assert (seen["sold"], seen["oversold"], seen["undersold"]) == (3, 0, 0)


def test_a_unit_given_back_and_sold_again_is_no_finding() -> None:
    history = History()
    history.gives_back(0)
    number = len(history.attempts)
    order = OrderLine(
        reference=uuid.UUID(int=200),
        buyer="guest:bob",
        key=uuid.UUID(int=number),
        quantity=1,
        strategy="optimistic",
        attempts=1,
    )
    history.orders.append(order)
    history.movements.append(
        MovementLine(version=12, kind="sale", delta=-1, available_after=0, order=order.reference)
    )
    history.ends(0, version=12)
    late = replace(history.attempts[0], buyer=4, key=order.key, order=order.reference)
    history.attempts[4] = replace(late, version=12, started_at=9.0, ended_at=9.5)

    assert history.codes() == set()
    assert history.books().units_sold() == 3


def test_more_sold_again_than_was_given_back_is_an_oversell() -> None:
    history = History()
    history.gives_back(0)
    again = replace(history.orders[1], reference=uuid.UUID(int=400))
    history.orders += [again, replace(again, reference=uuid.UUID(int=401))]

    assert history.books().oversold() == 1


def test_a_unit_of_an_earlier_run_that_is_given_back_during_this_one_was_put_in() -> None:
    history = History()
    earlier = replace(history.orders[0], reference=uuid.UUID(int=300), key=uuid.uuid4())
    history.orders.append(earlier)
    history.gives_back(3)
    expired = history.orders.pop()
    books = replace(history.books(), earlier_orders=[expired])

    assert audit(books) == []
    assert books.units_put_in() == UNITS + 1


def test_figures_count_buyers_once_and_time_from_the_intended_start() -> None:
    history = History()
    history.attempts.insert(0, replace(history.attempts[0], outcome="unknown", order=None))

    seen = figures(books=history.books(), attempts=history.attempts)

    assert seen["sold"] == 3
    assert seen["refused"] == {"sold_out": 2}
    assert (seen["busy"], seen["failed"], seen["oversold"], seen["undersold"]) == (0, 0, 0, 0)
    assert seen["duration_s"] == 2.5
    assert seen["sales_per_s"] == 1.2
    assert seen["latency_ms"] == {
        "sold": {"p50": 500.0, "p95": 500.0, "p99": 500.0, "max": 500.0},
        "refused": {"p50": 500.0, "p95": 500.0, "p99": 500.0, "max": 500.0},
    }


def test_figures_count_promises_and_time_them_to_the_last_one() -> None:
    history = History()
    history.accepts()
    history.attempts.append(replace(history.attempts[0], outcome="replayed", ended_at=9.0))

    seen = figures(books=history.books(), attempts=history.attempts)

    assert (seen["accepted"], seen["accepted_per_s"]) == (3, 1.2)
    assert seen["sold"] == 3


def test_a_promise_is_as_quick_as_its_answer() -> None:
    history = History()
    history.accepts()
    latency = figures(books=history.books(), attempts=history.attempts)["latency_ms"]
    assert latency == {
        "sold": {"p50": 500.0, "p95": 500.0, "p99": 500.0, "max": 500.0},
        "refused": {"p50": 500.0, "p95": 500.0, "p99": 500.0, "max": 500.0},
    }


def test_figures_without_promises_have_no_speed_of_promising() -> None:
    history = History()
    seen = figures(books=history.books(), attempts=history.attempts)
    assert (seen["accepted"], seen["accepted_per_s"]) == (0, None)


def test_percentiles_are_nearest_ranks() -> None:
    history = History()
    base = history.attempts[0]
    attempts = [
        replace(base, key=uuid.UUID(int=n), buyer=n, intended_at=0.0, ended_at=n / 1000)
        for n in range(1, 101)
    ]
    latency = figures(books=history.books(), attempts=attempts)["latency_ms"]
    assert latency == {"sold": {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}, "refused": {}}


def test_units_left_while_buyers_were_refused_are_undersold() -> None:
    history = History()
    history.stock = Snapshot(available=5, version=10)
    assert figures(books=history.books(), attempts=history.attempts)["undersold"] == 2


def test_nothing_sold_has_no_speed() -> None:
    history = History()
    history.orders.clear()
    seen = figures(books=history.books(), attempts=history.attempts[3:])
    assert (seen["sales_per_s"], seen["attempts_mean"]) == (None, None)


def test_reads_a_record_with_its_last_line_cut_off(tmp_path: Path) -> None:
    line = {
        "buyer": 1, "key": str(uuid.UUID(int=1)), "quantity": 1, "intended_at": 0.0,
        "started_at": 0.0, "ended_at": 1.0, "status": 201, "outcome": "sold",
        "order": str(uuid.UUID(int=2)), "version": 2,
    }  # fmt: skip
    path = tmp_path / "record.jsonl"
    path.write_text(f'{json.dumps(line)}\n{{"generator_cpu_percent": 12.5}}\n{{"buyer": 2, "ke')

    record = read_record(path)

    assert [attempt.order for attempt in record.attempts] == [uuid.UUID(int=2)]
    assert record.generator_cpu_percent == 12.5


def test_a_missing_record_is_an_empty_one(tmp_path: Path) -> None:
    assert read_record(tmp_path / "none.jsonl").attempts == []
