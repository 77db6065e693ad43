"""What a comparison says, and what it refuses to say."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from loadtests import tables
from loadtests.comparisons import compare, rotated
from loadtests.scenarios import Scenario, ScenarioResult

SCENARIO = Scenario(units=1000, buyers=1000, concurrency=100)


def result(**fields: Any) -> dict[str, Any]:
    values = {
        "units": 1000, "sold": 1000, "refused": {}, "busy": 0, "failed": 0, "oversold": 0,
        "sales_per_s": 300.0, "latency_ms": {"sold": {"p50": 10, "p95": 20, "p99": 30}},
        "attempts_mean": 1.0, "audit": {"ok": True, "findings": []}, "generator_saturated": False,
    }  # fmt: skip
    return {**values, **fields}


def outcome(**rounds: list[dict[str, Any]]) -> ScenarioResult:
    made = ScenarioResult(scenario=SCENARIO, ceilings_per_s=[1000.0, 3000.0, 2000.0])
    made.rounds.update(rounds)
    return made


FAILED = {"audit": {"ok": False, "findings": [{"code": "oversold", "text": "…"}]}}


def test_every_strategy_gets_every_place_in_turn() -> None:
    names = ["a", "b", "c"]
    assert [rotated(names, n) for n in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]
    assert rotated([], 3) == []


def test_shows_the_median_its_spread_and_the_share_of_the_median_ceiling() -> None:
    made = outcome(
        pessimistic=[result(sales_per_s=speed) for speed in (200.0, 400.0, 300.0)],
    )
    row = dict(zip(tables.HEADER, made.rows()[0], strict=True))
    assert row["sales/s"] == "300 (200–400)"
    assert row["of ceiling"] == "15%"
    assert row["audit"] == "clean"


def test_a_failed_audit_has_no_speed_and_cannot_win() -> None:
    made = outcome(
        optimistic=[result(sales_per_s=None, **FAILED), result(sales_per_s=900.0)],
        pessimistic=[result(), result()],
        redis_lock=[result(sales_per_s=100.0), result(sales_per_s=101.0)],
    )
    row = dict(zip(tables.HEADER, made.rows()[0], strict=True))
    assert (row["sales/s"], row["of ceiling"]) == ("–", "–")
    assert row["audit"] == "FAILED: oversold"
    assert not made.clean()
    assert any("Fastest: pessimistic" in note for note in made.notes())


def test_a_promise_is_no_sale_and_cannot_win() -> None:
    made = outcome(
        optimistic=[result(), result()],
        pessimistic=[result(sales_per_s=400.0), result(sales_per_s=401.0)],
        redis_lock=[result(sales_per_s=900.0, accepted=1000)] * 2,
    )
    assert any("Fastest: pessimistic" in note for note in made.notes())


def test_says_when_the_fastest_cannot_be_told_apart() -> None:
    made = outcome(
        optimistic=[result(sales_per_s=100.0), result(sales_per_s=110.0)],
        pessimistic=[result(sales_per_s=300.0), result(sales_per_s=360.0)],
        redis_lock=[result(sales_per_s=310.0), result(sales_per_s=320.0)],
    )
    assert any(
        "No significant difference between pessimistic and redis_lock" in note
        for note in made.notes()
    )


def test_one_round_proves_no_difference() -> None:
    made = outcome(optimistic=[result()], pessimistic=[result(sales_per_s=900.0)])
    assert "One round: differences may be chance." in made.notes()


@pytest.mark.parametrize(("oversold", "strong"), [([5, 7], True), ([5, 0], False), ([0, 0], False)])
def test_the_control_must_oversell_in_every_round(oversold: list[int], strong: bool) -> None:
    made = outcome(unguarded=[result(oversold=units, **FAILED) for units in oversold])
    assert made.control_oversold() is strong
    assert any("too weak" in note for note in made.notes()) is not strong
    assert made.rows()[0][tables.HEADER.index("sales/s")] == "–", "the control has no speed"


def test_flags_a_generator_that_was_the_bottleneck() -> None:
    made = outcome(pessimistic=[result(generator_saturated=True)])
    assert any("generator" in note for note in made.notes())


def test_the_control_gets_the_same_buyers_and_a_tenth_of_the_units() -> None:
    spec = SCENARIO.spec("unguarded", seed=3)
    assert (spec.units, spec.buyers, spec.concurrency) == (100, 1000, 100)
    assert SCENARIO.spec("pessimistic", seed=3).units == 1000


@pytest.mark.django_db
def test_a_strategy_that_cannot_run_here_is_named_with_the_reason(
    settings: Any,
) -> None:
    settings.CACHES = {name: c for name, c in settings.CACHES.items() if name != "locks"}
    made = compare(
        Scenario(units=1, buyers=1, within_s=1),
        names=["redis_lock"],
        rounds=1,
        host="http://127.0.0.1:1",
        server_started_here=False,
        announce=tables.ProgressBar,
    )
    assert made.rounds == {}
    assert "not run: it needs Redis, and REDIS_URL is not set" in tables.terminal(made.rows())


@pytest.mark.django_db
def test_a_run_of_a_strategy_that_cannot_run_here_is_a_plain_error(
    settings: Any,
) -> None:
    settings.CACHES = {name: c for name, c in settings.CACHES.items() if name != "locks"}
    with pytest.raises(CommandError, match="needs Redis"):
        call_command(
            "run_load", strategy="redis_lock", units=1, buyers=1, concurrency=1, host="http://h"
        )


def test_the_markdown_table_has_as_many_cells_in_every_line() -> None:
    made = outcome(optimistic=[result()], unguarded=[result(oversold=3, **FAILED)])
    lines = tables.markdown(made.rows()).splitlines()
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {len(tables.HEADER) + 1}


def test_the_terminal_table_fits_its_columns() -> None:
    made = outcome(optimistic=[result()])
    header, rule, row = tables.terminal(made.rows()).splitlines()
    assert header.index("sold") + len("sold") == row.index("1000") + len("1000")
    assert set(rule) == {"─"}
