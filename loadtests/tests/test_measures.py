"""Timings, drains and costs: the measures beside a run's speed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from django.db import connection

from loadtests import costs, timings
from loadtests.drains import drain_figures, wait_until_drained

SPEND = """
import os, socket, sys, time
door = socket.socket()
door.bind(("127.0.0.1", 0))
door.listen()
child = os.fork()
print(door.getsockname()[1], flush=True) if child else None
sys.stdin.readline() if child else time.sleep(0.5)
end = time.process_time() + 0.2
while time.process_time() < end:
    pass
print("spent", flush=True) if child else None
time.sleep(30)
"""


def test_reads_milliseconds_and_counts_by_name() -> None:
    header = 'queue;dur=1.2, lock;desc="row lock";dur=0.8, commit;dur=0.9, attempts;desc="2"'
    assert timings.parse(header) == {"queue": 1.2, "lock": 0.8, "commit": 0.9, "attempts": 2.0}


@pytest.mark.parametrize("header", ["", "cache", 'hit;desc="yes"', ";dur=1", "a;dur=", "a;dur=x"])
def test_what_has_no_number_is_left_out(header: str) -> None:
    assert timings.parse(header) == {}


def test_gives_the_median_over_the_answers_that_have_the_name() -> None:
    seen = timings.medians(["lock;dur=1", "lock;dur=3, queue;dur=9", "lock;dur=2"])
    assert seen == {"lock": 2.0, "queue": 9.0}


def test_waits_until_nothing_is_pending() -> None:
    left = iter([40, 20, 0])
    assert wait_until_drained(lambda: next(left))
    assert list(left) == []


def test_does_not_wait_for_ever() -> None:
    begun_at = time.monotonic()
    assert not wait_until_drained(lambda: 7, within_s=0.1)
    assert time.monotonic() - begun_at < 1


def test_a_drain_is_timed_from_the_last_acceptance_to_the_last_order() -> None:
    assert drain_figures([1.0, 9.0, 10.5, 12.0], last_accepted_at=10.0) == {
        "drain_s": 2.0,
        "drained_per_s": 1.0,
    }


def test_what_was_written_before_the_last_acceptance_has_no_speed_of_draining() -> None:
    assert drain_figures([1.0, 9.0], last_accepted_at=10.0) == {
        "drain_s": 0.0,
        "drained_per_s": None,
    }


@pytest.fixture
def spender() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A program with a worker that shares its port; each spends 0.2 s of CPU when told."""
    arguments = [sys.executable, "-c", SPEND]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(arguments, text=True, **pipes) as program:  # type: ignore[call-overload]  # pipes by name
        port = int(program.stdout.readline())
        yield program, port
        for process in costs.Program.listening(port).processes():
            process.kill()


def test_counts_the_cpu_of_a_program_and_its_workers(
    spender: tuple[subprocess.Popen[str], int],
) -> None:
    program, port = spender
    server = costs.Program.listening(port)
    server.start()
    assert program.stdin is not None
    assert program.stdout is not None

    program.stdin.write("\n")
    program.stdin.flush()
    program.stdout.readline()
    time.sleep(1)

    assert len(server.processes()) == 2
    assert len(server.worker_rss_mb()) == 1
    assert 300 <= (server.spent_ms() or 0) < 1500


def test_a_port_nobody_listens_on_costs_nothing_known() -> None:
    nobody = costs.Program.listening(None)
    nobody.start()
    assert (nobody.spent_ms(), nobody.worker_rss_mb()) == (None, [])


def test_no_cpu_is_given_for_a_load_that_did_other_work_too() -> None:
    meter = costs.Meter("http://127.0.0.1:9")
    assert set(meter.cost(sales=10, purchases_only=False)) == {
        "worker_rss_before_mb",
        "worker_rss_mb",
    }


def test_counters_are_told_as_differences() -> None:
    assert costs.differences({"a": 3, "b": 1, "gone": 1}, {"a": 10, "b": 1, "new": 4}) == {
        "a": 7,
        "b": 0,
    }


@pytest.mark.django_db
def test_innodb_counts_and_other_engines_have_nothing_to_say() -> None:
    counters = costs.innodb_counters()
    assert bool(counters) is (connection.vendor == "mysql")
    assert set(counters) <= set(costs.INNODB_COUNTERS)
