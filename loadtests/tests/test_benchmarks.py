"""What the benchmark plans, says and draws; and one small whole one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from loadtests import bench_report, benchmarks, charts
from loadtests.benchmarks import Benchmark, Plan, Step, play
from loadtests.generators import Locust, Wrk
from loadtests.models import LoadRun
from loadtests.processes import ServerNotStarted
from loadtests.tables import ProgressBar
from loadtests.tests.test_comparisons import FAILED, result

ENVIRONMENT: dict[str, object] = {
    "commit": "abc", "database": "MariaDB 11", "machine": "Linux, 2 cores", "workers": 2,
    "threads": 8, "database_settings": {"sync_binlog": "1"},
}  # fmt: skip


def plan(**fields: Any) -> Plan:
    values = {
        "names": ["pessimistic", "conditional_update", "unguarded"], "servers": ["wsgi", "asgi"],
        "concurrencies": [1, 100, 1000], "buyers": 1000, "rounds": 2, "other_rounds": 1,
    }  # fmt: skip
    return Plan(**{**values, **fields})


def measured(**fields: Any) -> dict[str, Any]:
    values = {
        "cost": {"server_cpu_ms_per_sale": 2.5, "worker_rss_mb": [50.0, 60.0]},
        "innodb": {"Innodb_row_lock_waits": 7}, "timing_ms": {}, "accepted": 0,
        "generator": "wrk 4.1.0", "environment": ENVIRONMENT,
    }  # fmt: skip
    return {**result(), **values, **fields}


def benchmark() -> Benchmark:
    """One server: at 100 and at 1000 a time, the second strategy's speed a promise."""
    made = Benchmark(plan=plan(servers=["wsgi"]), generator="wrk 4.1.0")
    for concurrency, speed in ((100, 300.0), (1000, 270.0)):
        step = Step(scenario=made.plan.scenario("wsgi", concurrency), names=[], number=0)
        cell = made.result_for(step)
        cell.ceilings_per_s.append(1000.0)
        cell.rounds["pessimistic"] = [measured(sales_per_s=speed)] * 2
        cell.rounds["conditional_update"] = [measured(sales_per_s=900.0, accepted=1000)]
    timed = Step(scenario=made.plan.scenario("wsgi", 100), names=[], number=0, timed=True)
    timing_ms = {"queue": 12.5, "commit": 0.9}
    made.result_for(timed).rounds["pessimistic"] = [measured(sales_per_s=1.0, timing_ms=timing_ms)]
    return made


def test_plans_the_headline_first_in_rotated_order_then_the_heaviest_loads() -> None:
    steps = list(plan().steps(plan().names))
    told = [(s.scenario.server, s.scenario.concurrency, s.number, s.timed) for s in steps]
    assert told == [
        ("wsgi", 100, 0, False),
        ("asgi", 100, 0, False),
        ("asgi", 100, 1, False),
        ("wsgi", 100, 1, False),
        ("wsgi", 100, 0, True),
        ("asgi", 100, 0, True),
        ("wsgi", 1000, 0, False),
        ("asgi", 1000, 0, False),
        ("wsgi", 1, 0, False),
        ("asgi", 1, 0, False),
    ]
    assert steps[0].names == ["pessimistic", "conditional_update", "unguarded"]
    assert steps[2].names == ["conditional_update", "pessimistic"]
    assert all("unguarded" not in step.names for step in steps[2:]), "once on each server"


def test_one_buyer_at_a_time_buys_less_often() -> None:
    buyers = {at: plan().scenario("wsgi", at).buyers for at in (1, 10, 1000)}
    assert buyers == {1: 200, 10: 1000, 1000: 1000}


def test_without_a_hundred_at_a_time_the_first_load_is_the_headline() -> None:
    assert plan(concurrencies=[10, 50]).headline() == 10


def test_compares_each_strategy_with_the_ceiling_and_the_crowd() -> None:
    bars = {bar["strategy"]: bar for bar in benchmark().bars()}
    assert bars["pessimistic"]["of_ceiling"] == 0.3
    assert bars["pessimistic"]["crowd_of_headline"] == 0.9


def test_a_failed_audit_has_no_bar_and_no_point_in_a_chart() -> None:
    made = benchmark()
    made.cells["wsgi", 100].rounds["pessimistic"].append(measured(**FAILED, sales_per_s=900.0))
    bars = {bar["strategy"]: bar for bar in made.bars()}
    report = bench_report.as_json(made, ENVIRONMENT)
    assert (bars["pessimistic"]["sales_per_s"], bars["pessimistic"]["of_ceiling"]) == (None, None)
    assert not made.clean()
    assert charts._speed(report["cells"][0], "pessimistic") is None


def test_the_speed_of_promises_is_marked_everywhere() -> None:
    made = benchmark()
    assert bench_report.terminal(made).count("900 accepted") == 3
    assert "written later" in charts._label(
        "conditional_update", bench_report.as_json(made, ENVIRONMENT)["cells"]
    )


def test_timed_runs_are_no_part_of_the_speeds() -> None:
    made = benchmark()
    assert made.cells["wsgi", 100].speed_per_s("pessimistic") == 300.0
    assert "12.50" in bench_report.markdown(made, ENVIRONMENT, {})


def test_the_document_tells_generator_costs_charts_and_what_was_left_out() -> None:
    made = benchmark()
    step = Step(scenario=made.plan.scenario("wsgi", 1), names=[], number=0)
    made.left_out.append((step, "no time left"))
    text = bench_report.markdown(made, ENVIRONMENT, {"x-latency.svg": "Latency"})
    for part in ("wrk 4.1.0", "| 2.50 |", "| 60 |", "![Latency](x-latency.svg)", "sync_binlog"):
        assert part in text
    assert "wsgi, 1 at a time, round 1: no time left" in text
    assert "LEFT OUT: wsgi, 1 at a time" in bench_report.terminal(made)


def test_the_environment_is_written_once() -> None:
    body = bench_report.as_json(benchmark(), ENVIRONMENT)
    assert json.dumps(body).count("MariaDB 11") == 1


def test_a_server_that_does_not_start_is_asked_once_and_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def refuse(*, kind: str, **kwargs: Any) -> Any:
        asked.append(kind)
        raise ServerNotStarted("The log:\n[2026-01-01] [7] [ERROR] Worker failed to boot.\n")

    monkeypatch.setattr(benchmarks.processes, "server", refuse)
    said: list[str] = []
    made = play(
        plan(),
        generator=Locust(),
        budget_s=60,
        say=said.append,
        announce=ProgressBar,
        save=len_of,
    )
    assert asked == ["wsgi", "asgi"]
    assert made.not_measured() == ["wsgi: Worker failed to boot.", "asgi: Worker failed to boot."]
    assert len(said) == 10


def len_of(made: Benchmark) -> int:
    return len(made.cells)


def test_stops_adding_steps_when_the_time_is_up_and_says_which() -> None:
    said: list[str] = []
    made = play(
        plan(),
        generator=Locust(),
        budget_s=-1,
        say=said.append,
        announce=ProgressBar,
        save=len_of,
    )
    assert made.cells == {}
    assert said[0] == "wsgi, 100 at a time, round 1: no time left"


def test_a_control_that_does_not_oversell_proves_nothing() -> None:
    made = benchmark()
    made.cells["wsgi", 100].rounds["unguarded"] = [measured(oversold=0, **FAILED)]
    assert made.control_failed()
    made.cells["wsgi", 100].rounds["unguarded"] = [measured(oversold=5, **FAILED)]
    assert not made.control_failed()


def test_draws_the_same_charts_from_the_same_figures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report = bench_report.as_json(benchmark(), ENVIRONMENT)
    drawn = []
    for number in range(2):
        paths = {name: tmp_path / f"{number}-{name}.svg" for name in ("throughput", "latency")}
        assert charts.draw(report, **paths) == ["throughput", "latency"]
        drawn.append([path.read_text() for path in paths.values()])
    assert drawn[0] == drawn[1]
    for words in ("buyers at a time", "sales a second", "pessimistic", "ceiling"):
        assert f"{words}" in drawn[0][0]
    assert "milliseconds" in drawn[0][1]
    assert "<text" in drawn[0][0], "text stays text"


def test_nothing_sold_draws_nothing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "x.svg"
    assert charts.draw({"cells": [], "headline": 100}, throughput=path, latency=path) == []
    assert not path.exists()


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"buyers": 0}, {"concurrency": [0]}])
def test_refuses_numbers_that_make_no_sense(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="at least 1"):
        call_command("bench", output=tmp_path / "b", **wrong)


@pytest.mark.skipif(not Wrk.installed(), reason="needs wrk: sudo apt-get install wrk")
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_children_use_the_test_database")
def test_measures_prints_and_writes_even_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    call_command(
        "bench",
        strategies=["conditional_update"],
        servers=["wsgi"],
        concurrency=[10],
        rounds=1,
        buyers=40,
        output=tmp_path / "b",
    )

    printed = capsys.readouterr().out
    body = json.loads((tmp_path / "b.json").read_text())
    assert "The charts were not drawn: pip install -r requirements-dev.txt" in printed
    assert body["generator"].startswith("wrk ")
    assert body["bars"][0]["sales_per_s"] > 0
    assert "audit" in (tmp_path / "b.md").read_text()
    assert LoadRun.objects.count() == 4, "two servers, each warmed up, one run on each"
    assert not list(tmp_path.glob("*.svg"))
