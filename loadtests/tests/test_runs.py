"""Whole runs, small: real gunicorn, real locust, the real audit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from conftest import MakeProduct
from inventory import holds
from inventory.audit import audit, read_books
from inventory.clock import MinutesFromNow
from inventory.models import Movement, Order, Product, Stock
from inventory.purchases import purchase
from loadtests.generators import Load, Locust
from loadtests.generators.base import Progress, no_progress
from loadtests.models import Comparison, LoadRun
from loadtests.processes import locust_arguments
from loadtests.records import ClientRecord, read_record
from loadtests.runs import RunSpec, measure_ceiling, perform

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("_children_use_the_test_database"),
]

FIELDS = {
    "strategy", "server", "database", "buyers", "concurrency", "within_s", "units", "sold",
    "refused", "busy", "failed", "oversold", "undersold", "duration_s", "sales_per_s",
    "latency_ms", "attempts_mean", "audit", "generator_cpu_percent", "generator_saturated",
    "environment", "generator", "accepted", "accepted_per_s", "drain_s", "drained_per_s", "cost",
    "innodb", "timing_ms", "over_time",
}  # fmt: skip


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def test_sells_every_unit_and_refuses_the_rest(strategy: str, tmp_path: Path) -> None:
    result = tmp_path / "run.json"

    call_command("run_load", strategy=strategy, units=20, buyers=60, concurrency=20, json=result)

    seen = json.loads(result.read_text())
    assert set(seen) == FIELDS
    assert seen["audit"] == {"ok": True, "total": 0, "findings": []}
    assert (seen["sold"], seen["refused"]) == (20, {"sold_out": 40})
    assert (seen["busy"], seen["failed"], seen["oversold"], seen["undersold"]) == (0, 0, 0, 0)
    assert seen["sales_per_s"] > 0
    assert set(seen["latency_ms"]["sold"]) == {"p50", "p95", "p99", "max"}
    assert (sum(seen["over_time"]["sold"]), sum(seen["over_time"]["refused"])) == (20, 40)
    assert seen["environment"]["workers"] >= 1
    run = LoadRun.objects.get()
    assert (run.status, run.sold, run.opening_available) == (LoadRun.Status.PASSED, 20, 20)
    product = Product.objects.get(slug="lab")
    assert product.run_until is None
    assert audit(read_books(product.pk)) == []
    assert Order.objects.values("buyer").distinct().count() == 20
    assert children() == []


def test_a_run_on_a_held_product_is_judged_by_the_orders_held(
    strategy: str, host: str, make_product: MakeProduct
) -> None:
    """A hold of before ends during the run: its unit comes on top, and is nobody's mistake."""
    product = make_product("lab", units=1, is_lab=True, hold_minutes=10, limit_per_buyer=1)
    earlier = purchase(slug="lab", quantity=1, buyer="guest:ada", key=uuid.uuid4()).order

    class ExpiresMeanwhile(Locust):
        def buy(self, load: Load, progress: Progress = no_progress) -> ClientRecord:
            Order.objects.filter(pk=earlier).update(expires_at=MinutesFromNow(-1))
            assert holds.release_expired() == 1
            return super().buy(load, progress)

    spec = RunSpec(strategy=strategy, units=10, buyers=30, concurrency=10)
    run = perform(spec, host=host, server_started_here=True, generator=ExpiresMeanwhile())

    assert run.result["audit"]["findings"] == []
    assert (run.sold, run.oversold, run.result["undersold"]) == (11, 0, 0)
    assert set(Order.objects.exclude(pk=earlier).values_list("status", flat=True)) == {"held"}
    Order.objects.filter(status=Order.Status.HELD).update(expires_at=MinutesFromNow(-1))
    assert holds.release_expired() == 11
    assert audit(read_books(product.pk)) == []


def test_spreads_arrivals_and_counts_from_the_intended_start(host: str) -> None:
    spec = RunSpec(strategy="conditional_update", units=5, buyers=40, within_s=2, seed=7)

    run = perform(spec, host=host, server_started_here=True)

    attempts = read_record(settings.BASE_DIR / "var" / "runs" / f"{run.pk}.jsonl").attempts
    moments = sorted(attempt.intended_at for attempt in attempts)
    assert 1.5 < moments[-1] - moments[0] <= 2
    assert all(attempt.started_at >= attempt.intended_at for attempt in attempts)
    assert (run.status, run.sold) == (LoadRun.Status.PASSED, 5)
    assert run.result["refused"] == {"sold_out": 35}


def test_the_control_fails_its_audit_and_shows_no_speed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command("run_load", strategy="unguarded", units=20, buyers=200, concurrency=40)

    run = LoadRun.objects.get()
    printed = capsys.readouterr().out
    assert ended.value.code == 1
    assert run.status == LoadRun.Status.FAILED
    assert run.sales_per_s is None
    assert (run.oversold or 0) > 0
    assert "AUDIT oversold" in printed
    assert "sales/s" not in printed


def test_a_killed_worker_loses_and_invents_nothing(host: str) -> None:
    """kill -9 in the middle of the sale: buyers whose answer was lost ask again by key."""
    killed: list[int] = []

    def kill_one_worker(done: int, of: int) -> None:
        if done > of // 4 and not killed:
            workers = [p for p in children() if p.children() == [] and "shop.wsgi" in p.cmdline()]
            killed.append(workers[0].pid)
            os.kill(workers[0].pid, signal.SIGKILL)

    spec = RunSpec(strategy="pessimistic", units=400, buyers=800, concurrency=40)
    run = perform(spec, host=host, server_started_here=True, progress=kill_one_worker)

    assert killed, "nobody was killed, nothing was tested"
    assert run.result["audit"]["findings"] == []
    assert run.sold == 400
    assert run.result["failed"] == 0


def test_ctrl_c_leaves_nothing_running_and_marks_the_run_aborted() -> None:
    arguments = [sys.executable, "manage.py", "run_load", "--strategy", "pessimistic"]
    arguments += ["--units", "50", "--buyers", "50", "--within", "60"]
    command = subprocess.Popen(
        arguments, cwd=settings.BASE_DIR, stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 30
    while len(children()) < 6 and time.monotonic() < deadline:  # it, gunicorn + 2, consumer, locust
        time.sleep(0.1)
    started = children()
    time.sleep(1)

    command.send_signal(signal.SIGINT)
    _, errors = command.communicate(timeout=30)

    assert len(started) >= 6
    assert command.returncode == 1
    assert b"nothing is left running" in errors
    assert not [process for process in started if process.is_running()]
    assert LoadRun.objects.get().status == LoadRun.Status.ABORTED
    assert Product.objects.get(slug="lab").run_until is None


def test_a_run_that_nobody_answered_fails_its_audit() -> None:
    spec = RunSpec(strategy="pessimistic", units=2, buyers=2, concurrency=2)
    run = perform(spec, host="http://127.0.0.1:9", server_started_here=False)
    assert run.status == LoadRun.Status.FAILED
    assert {f["code"] for f in run.result["audit"]["findings"]} == {"unanswered", "undersold"}


def test_a_run_that_was_killed_is_marked_aborted_by_the_next(host: str) -> None:
    values = {"units": 1, "buyers": 1, "opening_available": 1, "opening_version": 1}
    killed = LoadRun.objects.create(strategy="pessimistic", server="wsgi", **values)
    spec = RunSpec(strategy="pessimistic", units=1, buyers=1, concurrency=1)
    assert perform(spec, host=host, server_started_here=True).status == LoadRun.Status.PASSED
    killed.refresh_from_db()
    assert killed.status == LoadRun.Status.ABORTED


def test_refuses_to_run_while_another_run_is_on(make_product: MakeProduct, host: str) -> None:
    make_product("lab", units=3, is_lab=True, run_until=timezone.now() + timedelta(minutes=1))

    with pytest.raises(CommandError, match="holds “lab”"):
        call_command(
            "run_load", strategy="pessimistic", units=1, buyers=1, concurrency=1, host=host
        )

    assert Stock.objects.get().available == 3
    assert not LoadRun.objects.exists()


def test_never_runs_against_a_product_on_sale(make_product: MakeProduct, host: str) -> None:
    make_product("lab", units=3)

    with pytest.raises(CommandError, match="not a lab product"):
        call_command(
            "run_load", strategy="pessimistic", units=1, buyers=1, concurrency=1, host=host
        )

    assert Movement.objects.count() == 1


@pytest.mark.parametrize(
    "wrong", [{"units": -1}, {"buyers": 0}, {"concurrency": 0}, {"concurrency": None, "within": 0}]
)
def test_refuses_numbers_that_make_no_sense(wrong: dict[str, int]) -> None:
    asked = {"strategy": "pessimistic", "units": 1, "buyers": 1, "concurrency": 1, **wrong}
    arguments = [
        part
        for name, value in asked.items()
        if value is not None
        for part in (f"--{name}", str(value))
    ]
    with pytest.raises(CommandError, match="must be"):
        call_command("run_load", *arguments)
    assert not LoadRun.objects.exists()


def test_measures_a_ceiling(host: str) -> None:
    generator = Locust(ceiling_requests=200)
    assert measure_ceiling(host=host, concurrency=10, generator=generator) > 20


def test_the_locustfile_shares_its_buyers_among_processes(
    make_product: MakeProduct, host: str, tmp_path: Path
) -> None:
    product = make_product("lab", units=15, is_lab=True)
    record = tmp_path / "record.jsonl"
    arguments = locust_arguments(
        host=host, users=6, record=record, product="lab", buyers=30, processes=2
    )

    subprocess.run(arguments, cwd=settings.BASE_DIR, check=True, timeout=60, capture_output=True)

    shares = [read_record(Path(f"{record}.{number}")).attempts for number in range(2)]
    assert [len(share) for share in shares] == [15, 15]
    assert len({attempt.key for share in shares for attempt in share}) == 30
    assert len(read_books(product.pk).orders) == 15


def test_the_locustfile_works_alone(make_product: MakeProduct, host: str) -> None:
    """Without options every user is one new buyer after another, until stopped."""
    product = make_product("lab", units=1000, is_lab=True)
    arguments = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless"]
    arguments += ["--host", host, "--users", "3", "--spawn-rate", "3", "--run-time", "3s"]

    subprocess.run(arguments, cwd=settings.BASE_DIR, check=True, timeout=60, capture_output=True)

    orders = Order.objects.filter(product=product)
    assert orders.count() >= 3
    assert orders.values("buyer").distinct().count() == orders.count()
    assert audit(read_books(product.pk)) == []


def test_compares_in_rounds_and_writes_what_it_found(tmp_path: Path) -> None:
    files = {"json": tmp_path / "c.json", "markdown": tmp_path / "c.md"}

    call_command(
        "compare_strategies",
        rounds=2,
        buyers=200,
        concurrency=[40],
        strategies=["conditional_update", "unguarded"],
        **files,
    )

    seen = json.loads(files["json"].read_text())["scenarios"][0]
    assert [len(rounds) for rounds in seen["runs"].values()] == [2, 2]
    assert seen["control_oversold"] is True
    assert len(seen["ceilings_per_s"]) == 2
    text = files["markdown"].read_text()
    assert "200 units, 200 buyers 40 at a time" in text
    assert "as it must" in text
    assert LoadRun.objects.count() == 4
    kept = Comparison.objects.get()
    assert (kept.status, kept.asked_by, kept.rounds) == ("done", "command", 2)
    assert (kept.done, kept.of) == (800, 800)
    for run in kept.runs.all():
        ceiling_per_s = seen["ceilings_per_s"][run.round - 1]
        assert run.ceiling_per_s == pytest.approx(ceiling_per_s, abs=0.06)
