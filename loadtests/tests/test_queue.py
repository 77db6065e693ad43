"""Whose turn it is: real workers, a real server and real locust buyers, some of them killed."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.utils import timezone

from conftest import MakeProduct
from inventory.clock import MinutesFromNow
from inventory.models import Movement, Order, Product
from loadtests import queue
from loadtests.models import Comparison, LoadRun, Worker
from loadtests.scenarios import Scenario

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("_children_use_the_test_database"),
]
Status = Comparison.Status
WAIT_S = 90
StartWorker = Callable[[], subprocess.Popen[bytes]]


def asked(**fields: Any) -> Comparison:
    """Ask for a small comparison that needs no ceiling."""
    values = {
        "strategies": ["conditional_update"],
        "units": 30,
        "buyers": 30,
        "within_s": 0.5,
        "asked_by": "ada",
    }
    return Comparison.objects.create(**(values | fields))


def long() -> Comparison:
    """Ask for one that is still going on whenever the test looks."""
    return asked(within_s=60.0)


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    """Start workers as processes of their own."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        log = (tmp_path / f"worker-{len(started)}.log").open("wb")
        command = [sys.executable, "manage.py", "run_queued_loads"]
        started.append(
            subprocess.Popen(
                command, cwd=settings.BASE_DIR, stdout=log, stderr=log, start_new_session=True
            )
        )
        return started[-1]

    yield start
    for worker in started:
        worker.terminate()
    for worker in started:
        try:
            worker.wait(WAIT_S)
        finally:
            worker.kill()


def until(seen: Callable[[], Any], what: str) -> Any:
    """Wait for a moment of other processes; the value that it came with."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if value := seen():
            return value
        time.sleep(0.1)
    raise AssertionError(f"never came: {what}")


def family(worker: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """All that a worker started, once the buyers are among it."""

    def buyers_there() -> list[psutil.Process]:
        children = psutil.Process(worker.pid).children(recursive=True)
        running = LoadRun.objects.filter(status=LoadRun.Status.RUNNING).exists()
        there = any("locust" in " ".join(child.cmdline()) for child in children)
        return children if running and there else []

    found: list[psutil.Process] = until(buyers_there, "a run with its buyers")
    return found


def fresh(comparison: Comparison) -> Comparison:
    return Comparison.objects.seen().get(pk=comparison.pk)


def at_once(do: Callable[[], Any], times: int) -> list[Any]:
    """Do the same in several threads at the same moment."""
    barrier = threading.Barrier(times, timeout=10)

    def one() -> Any:
        try:
            barrier.wait()
            return do()
        finally:
            connection.close()

    with ThreadPoolExecutor(times) as pool:
        return [each.result() for each in [pool.submit(one) for _ in range(times)]]


def test_plays_what_was_asked_for_and_keeps_every_run() -> None:
    comparison = asked(strategies=["conditional_update", "optimistic"], rounds=2)

    call_command("run_queued_loads", once=True)

    comparison = fresh(comparison)
    assert (comparison.status, comparison.log, comparison.playing) == (Status.DONE, "", None)
    assert comparison.started_at is not None
    assert comparison.finished_at is not None
    assert (comparison.done, comparison.of) == (120, 120)
    runs = comparison.runs.order_by("pk")
    assert list(runs.values_list("round", "strategy", "status")) == [
        (1, "conditional_update", "passed"),
        (1, "optimistic", "passed"),
        (2, "optimistic", "passed"),
        (2, "conditional_update", "passed"),
    ]
    assert sum(runs[0].result["over_time"]["sold"]) == 30
    assert psutil.Process().children(recursive=True) == []


def test_keeps_the_ceiling_of_the_round_with_its_runs() -> None:
    comparison = asked(within_s=None, concurrency=10)

    call_command("run_queued_loads", once=True)

    run = comparison.runs.get()
    assert run.ceiling_per_s is not None
    assert run.share_of_ceiling() == pytest.approx((run.sales_per_s or 0) / run.ceiling_per_s)


def test_a_run_that_fails_its_audit_has_no_speed() -> None:
    comparison = asked(strategies=["unguarded"], units=300, buyers=300, within_s=0.2)

    call_command("run_queued_loads", once=True)

    run = comparison.runs.get()
    assert fresh(comparison).status == Status.DONE
    assert run.status == LoadRun.Status.FAILED
    assert (run.sales_per_s, run.result["over_time"]) == (None, None)
    assert json.dumps(run.result).count('"sales_per_s": null') == 1


@pytest.mark.parametrize("number", range(5))
def test_two_workers_never_take_the_same(number: int) -> None:
    comparison = asked()

    taken = [each for each in at_once(queue.claim_next, 4) if each]

    assert taken == [comparison]


@pytest.mark.parametrize("number", range(5))
def test_two_comparisons_never_run_at_once(number: int) -> None:
    waiting = [asked() for _ in range(4)]

    begun = [each for each in at_once(iter_begin(waiting), len(waiting)) if each]

    assert begun == [True]
    assert Comparison.objects.filter(status=Status.RUNNING, playing=True).count() == 1


def test_two_workers_take_turns(start_worker: StartWorker) -> None:
    waiting = [asked() for _ in range(3)]
    for _ in range(2):
        start_worker()

    until(lambda: all(fresh(each).is_over() for each in waiting), "the end of all")

    played = sorted(map(fresh, waiting), key=lambda each: str(each.started_at))
    assert [each.status for each in played] == [Status.DONE] * 3
    for before, after in itertools.pairwise(played):
        assert str(before.finished_at) <= str(after.started_at)


def iter_begin(waiting: list[Comparison]) -> Callable[[], bool]:
    """Each caller begins another one."""
    left = iter(waiting)
    return lambda: queue._begin(next(left))


def test_a_command_waits_for_nobody_and_says_so() -> None:
    playing = asked()
    assert queue._begin(playing)

    with pytest.raises(CommandError, match="Another comparison runs"):
        queue.begin_now(
            Scenario(units=1, buyers=1, within_s=1),
            strategies=["optimistic"],
            rounds=1,
            generator="locust",
        )

    assert list(Comparison.objects.all()) == [playing]


def test_a_killed_worker_leaves_nothing_running_and_its_comparison_is_lost(
    start_worker: StartWorker,
) -> None:
    comparison = long()
    worker = start_worker()
    children = family(worker)

    worker.send_signal(signal.SIGKILL)
    worker.wait()

    until(lambda: not any(is_alive(child) for child in children), "the end of the children")
    assert fresh(comparison).state() == Status.RUNNING, "its heartbeat is still fresh"
    Comparison.objects.filter(pk=comparison.pk).update(beat_at=MinutesFromNow(-1))
    assert fresh(comparison).state() == Status.LOST, "without anybody having written that"
    following = asked()

    call_command("run_queued_loads", once=True)

    comparison = fresh(comparison)
    assert (comparison.status, comparison.playing) == (Status.LOST, None)
    assert comparison.runs.get().status == LoadRun.Status.ABORTED
    assert fresh(following).status == Status.DONE, "the lab product is not held for nobody"


def test_a_player_that_was_taken_for_lost_ends_itself(start_worker: StartWorker) -> None:
    """It was only slow: but the turn may be another's by now."""
    comparison = long()
    worker = start_worker()
    children = family(worker)

    Comparison.objects.filter(pk=comparison.pk).update(status=Status.LOST, playing=None)

    until(lambda: not any(is_alive(child) for child in children), "the end of the children")
    assert worker.poll() is None
    assert fresh(comparison).status == Status.LOST


def test_cancelling_ends_a_comparison_in_order_and_the_worker_goes_on(
    start_worker: StartWorker,
) -> None:
    comparison = long()
    worker = start_worker()
    children = family(worker)
    following = asked()

    assert queue.cancel(comparison)
    asked_at = time.monotonic()

    until(lambda: fresh(comparison).status == Status.CANCELLED, "the cancelled comparison")
    assert time.monotonic() - asked_at < 15
    assert not [child for child in children if is_alive(child)]
    assert comparison.runs.get().status == LoadRun.Status.ABORTED
    until(lambda: fresh(following).status == Status.DONE, "the next comparison")
    assert worker.poll() is None


def test_a_waiting_comparison_is_cancelled_at_once() -> None:
    comparison = asked()

    assert queue.cancel(comparison)

    assert fresh(comparison).status == Status.CANCELLED
    assert queue.claim_next() is None
    assert not queue.cancel(comparison)


def test_sigterm_ends_worker_and_comparison_in_order(start_worker: StartWorker) -> None:
    comparison = long()
    worker = start_worker()
    children = family(worker)
    assert Worker.any_alive()

    worker.terminate()

    assert worker.wait(WAIT_S) == 0
    assert not [child for child in children if is_alive(child)]
    comparison = fresh(comparison)
    assert comparison.status == Status.CANCELLED
    assert "was stopped" in comparison.log
    assert comparison.runs.get().status == LoadRun.Status.ABORTED
    assert Product.objects.get(slug="lab").run_until is None
    assert not Worker.objects.exists()


def test_sigterm_while_a_comparison_is_called_off_ends_the_worker_all_the_same(
    start_worker: StartWorker,
) -> None:
    comparison = long()
    worker = start_worker()
    buyers = next(each for each in family(worker) if "locust" in " ".join(each.cmdline()))
    buyers.suspend()
    assert queue.cancel(comparison)
    until(lambda: has_pending(buyers, signal.SIGTERM), "the end of the buyers being asked for")

    worker.terminate()

    assert worker.wait(WAIT_S) == 0
    assert not is_alive(buyers)
    assert (fresh(comparison).status, fresh(comparison).log) == (Status.CANCELLED, "")


def test_a_worker_told_to_stop_while_it_claims_a_comparison_does_not_play_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    comparison, following, claim_next = asked(), asked(), queue.claim_next

    def claim_and_be_stopped() -> Comparison | None:
        claimed = claim_next()
        signal.raise_signal(signal.SIGTERM)
        return claimed

    monkeypatch.setattr(queue, "claim_next", claim_and_be_stopped)

    call_command("run_queued_loads")

    assert (fresh(comparison).status, comparison.runs.count()) == (Status.CANCELLED, 0)
    assert fresh(following).status == Status.QUEUED


def test_a_failure_is_kept_with_its_reason(make_product: MakeProduct) -> None:
    make_product("lab", units=3)
    comparison = asked()

    call_command("run_queued_loads", once=True)

    comparison = fresh(comparison)
    assert comparison.status == Status.FAILED
    assert "not a lab product" in comparison.log
    assert (Movement.objects.count(), Order.objects.count()) == (1, 0)


def test_a_product_held_by_another_run_is_left_alone(make_product: MakeProduct) -> None:
    make_product("lab", units=3, is_lab=True, run_until=timezone.now() + timedelta(minutes=1))
    comparison = asked()

    call_command("run_queued_loads", once=True)

    assert fresh(comparison).status == Status.FAILED
    assert "holds “lab”" in fresh(comparison).log
    assert Movement.objects.count() == 1


def test_a_server_that_does_not_start_fails_with_the_end_of_its_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WEB_WORKERS", "many")
    comparison = asked()

    call_command("run_queued_loads", once=True)

    assert fresh(comparison).status == Status.FAILED
    assert "many" in fresh(comparison).log
    assert psutil.Process().children(recursive=True) == []


def test_nothing_that_can_run_here_is_a_failure_that_says_why(settings: Any) -> None:
    settings.CACHES = {name: c for name, c in settings.CACHES.items() if name != "locks"}
    comparison = asked(strategies=["redis_lock"])

    call_command("run_queued_loads", once=True)

    assert fresh(comparison).status == Status.FAILED
    assert "needs Redis" in fresh(comparison).log


def test_a_worker_is_known_while_its_heartbeat_is_fresh() -> None:
    assert not Worker.any_alive()
    Worker.beat("one")
    assert Worker.any_alive()
    Worker.objects.update(beat_at=MinutesFromNow(-1))
    assert not Worker.any_alive()
    Worker.beat("two")
    assert list(Worker.objects.values_list("name", flat=True)) == ["two"]


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def has_pending(process: psutil.Process, number: signal.Signals) -> bool:
    """Whether a signal was sent to a suspended process, which it has not seen yet."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    pending = next(line for line in status.splitlines() if line.startswith("ShdPnd:"))
    return bool(int(pending.split()[1], 16) >> (number - 1) & 1)
