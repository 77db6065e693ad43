"""The generators against a real shop; wrk's tests are skipped out loud where it is missing."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError

from inventory.models import Order
from loadtests import generators, visitors
from loadtests.answers import MOST_TRIES
from loadtests.generators import Load, Locust, Wrk
from loadtests.generators import wrk as by_wrk
from loadtests.models import LoadRun
from loadtests.records import read_record
from loadtests.runs import RUNS_DIR, RunSpec, measure_ceiling, perform

needs_wrk = pytest.mark.skipif(not Wrk.installed(), reason="needs wrk: sudo apt-get install wrk")
shop = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("_children_use_the_test_database"),
]


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


@needs_wrk
class TestWrk:
    pytestmark = shop

    def test_sells_every_unit_and_refuses_the_rest(self, strategy: str, host: str) -> None:
        spec = RunSpec(strategy=strategy, units=20, buyers=60, concurrency=20)

        run = perform(spec, host=host, server_started_here=True, generator=Wrk())

        assert run.result["audit"] == {"ok": True, "total": 0, "findings": []}
        assert (run.sold, run.result["refused"]) == (20, {"sold_out": 40})
        assert run.result["generator"].startswith("wrk ")
        assert run.result["sales_per_s"] > 0
        assert 0 <= run.result["generator_cpu_percent"] < 100
        assert run.result["cost"]["server_cpu_ms_per_sale"] > 0
        assert len(run.result["cost"]["worker_rss_mb"]) == 2
        assert Order.objects.values("buyer").distinct().count() == 20

    def test_its_visitors_come_back_with_new_keys(self, host: str) -> None:
        wrk = Wrk()
        spec = RunSpec(strategy="conditional_update", units=10, buyers=10, concurrency=5)
        runs = [perform(spec, host=host, server_started_here=True, generator=wrk) for _ in range(2)]
        records = [read_record(RUNS_DIR / f"{run.pk}.jsonl").attempts for run in runs]
        assert [run.status for run in runs] == [LoadRun.Status.PASSED] * 2
        assert len(wrk.visitors) == 10
        assert len({attempt.key for attempts in records for attempt in attempts}) == 20
        assert Order.objects.values("buyer").distinct().count() == 10

    def test_ends_when_the_last_buyer_is_answered(self, host: str) -> None:
        spec = RunSpec(strategy="conditional_update", units=3, buyers=3, concurrency=3)
        assert spec.limit_s() > 60
        run = perform(spec, host=host, server_started_here=True, generator=Wrk())
        assert run.finished_at is not None
        assert (run.finished_at - run.started_at).total_seconds() < 20
        assert not [child for child in children() if child.name() == "wrk"]

    def test_a_killed_worker_loses_and_invents_nothing(
        self, host: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """kill -9 in the middle of the sale: buyers whose answer was lost ask again by key."""
        monkeypatch.setattr(by_wrk, "QUIET_S", 3.0)
        killed: list[int] = []

        def kill_one_worker(done: int, of: int) -> None:
            if done > of // 4 and not killed:
                workers = [p for p in children() if not p.children() and "shop.wsgi" in p.cmdline()]
                killed.append(workers[0].pid)
                os.kill(workers[0].pid, signal.SIGKILL)

        spec = RunSpec(strategy="pessimistic", units=400, buyers=800, concurrency=40)
        run = perform(
            spec, host=host, server_started_here=True, generator=Wrk(), progress=kill_one_worker
        )

        attempts = read_record(RUNS_DIR / f"{run.pk}.jsonl").attempts
        assert killed, "nobody was killed, nothing was tested"
        assert any(attempt.outcome == "unknown" for attempt in attempts), "no answer was lost"
        assert run.result["audit"]["findings"] == []
        assert run.sold == 400

    def test_measures_a_ceiling(self, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(by_wrk, "CEILING_S", 1)
        assert measure_ceiling(host=host, concurrency=10, generator=Wrk()) > 20

    def test_a_ceiling_nobody_answered_is_an_error(self) -> None:
        with pytest.raises(CommandError, match="not measured"):
            measure_ceiling(host="http://127.0.0.1:9", concurrency=2, generator=Wrk())

    def test_a_shop_that_is_not_there_is_an_error_and_the_run_aborted(self) -> None:
        spec = RunSpec(strategy="pessimistic", units=2, buyers=2, concurrency=2)
        with pytest.raises(CommandError, match="No visitor got the product page"):
            perform(spec, host="http://127.0.0.1:9", server_started_here=False, generator=Wrk())
        assert LoadRun.objects.get().status == LoadRun.Status.ABORTED

    def test_does_not_spread_arrivals(self, host: str) -> None:
        with pytest.raises(CommandError, match="locust"):
            call_command(
                "run_load",
                strategy="pessimistic",
                units=1,
                buyers=1,
                within=1.0,
                host=host,
                generator="wrk",
            )


@pytest.mark.django_db(transaction=True)
def test_a_visitor_keeps_cookies_and_token_as_a_browser_does(host: str) -> None:
    call_command("run_load", strategy="pessimistic", units=1, buyers=1, concurrency=1, host=host)
    first, second = visitors.arrive(host=host, product="lab", count=2)
    assert "guest=" in first.cookies
    assert "csrftoken=" in first.cookies
    assert first.token
    assert first != second


@pytest.mark.django_db(transaction=True)
def test_a_page_without_a_form_makes_no_visitor(host: str) -> None:
    with pytest.raises(ValueError, match="404"):
        list(visitors.arrive(host=host, product="nothing-here", count=1))


def test_nobody_answers_is_an_unknown_outcome() -> None:
    visitor = visitors.Visitor(cookies="", token="")
    answer = visitors.ask(visitor, host="http://127.0.0.1:9", product="lab", key="k")
    assert (answer["outcome"], answer["status"]) == ("unknown", 0)


def test_without_wrk_locust_makes_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert generators.cheapest() == "locust"
    with pytest.raises(CommandError, match="apt-get install wrk"):
        Wrk()


@needs_wrk
def test_with_wrk_it_is_preferred() -> None:
    assert generators.cheapest() == "wrk"


@needs_wrk
def test_wrk_asks_the_last_open_question_again_and_then_gives_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(by_wrk, "TRY_AGAIN_S", 0)
    wrk = Wrk()
    wrk.visitors = [visitors.Visitor(cookies="", token="")] * 2
    load = Load(
        host="http://127.0.0.1:9",
        product="lab",
        buyers=2,
        users=2,
        record=tmp_path / "r",
        limit_s=9,
    )
    lines: list[dict[str, object]] = [
        {"buyer": 0, "key": "a", "outcome": "sold"},
        {"buyer": 1, "key": "b", "outcome": "unknown", "intended_at": 1.0},
    ]
    more = wrk._ask_again(load, lines, deadline=float("inf"))
    asked_again = [(line["key"], line["intended_at"]) for line in more]
    assert asked_again == [("b", 1.0)] * (MOST_TRIES - 1)


def test_the_version_is_in_the_generators_name() -> None:
    assert Locust().name.startswith("locust 2")
    if Wrk.installed():
        said = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)
        assert Wrk().name.removeprefix("wrk ") in said.stdout


def test_wrks_script_is_where_it_is_looked_for() -> None:
    assert (settings.BASE_DIR / "loadtests" / "wrk.lua").is_file()
