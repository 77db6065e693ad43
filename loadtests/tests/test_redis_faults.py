"""Whole runs over HTTP whose Redis hangs for ten seconds or is killed in the middle."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from conftest import StartRedis
from inventory.tests.servers import OwnRedis
from loadtests.processes import SERVERS, server
from loadtests.records import Attempt, read_record
from loadtests.runs import RUNS_DIR, RunSpec, perform

pytestmark = [
    pytest.mark.long,
    pytest.mark.mariadb,
    pytest.mark.redis,
    pytest.mark.django_db(transaction=True),
]

HANG_S = 10.0
DEAD_S = 2.0
LONGEST_ANSWER_S = 8.0
MOST_THREADS = 40
"""Of one worker: 16 that serve, or 8 and the event loop, and what the libraries keep."""
UNITS, BUYERS = 600, 900


class Fault:
    """Something that happens to Redis once, when a third of the buyers have their answers."""

    def __init__(self, happen: Callable[[], object]) -> None:
        self._happen = happen
        self._thread: threading.Thread | None = None
        self._workers = workers()
        self.most_threads = 0

    def strike(self, done: int, of: int) -> None:
        """Let it happen, beside the run that calls this again and again."""
        self.most_threads = max(self.most_threads, *(w.num_threads() for w in self._workers))
        if done > of // 3 and self._thread is None:
            self._thread = threading.Thread(target=self._happen)
            self._thread.start()

    def over(self) -> None:
        """Wait for its end; it must have begun."""
        assert self._thread is not None, "the run ended before anything happened"
        self._thread.join()


def workers() -> list[psutil.Process]:
    servers = [p for p in psutil.Process().children() if "gunicorn" in " ".join(p.cmdline())]
    return [worker for process in servers for worker in process.children()]


@pytest.fixture(params=list(SERVERS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def redis(start_redis: StartRedis, monkeypatch: pytest.MonkeyPatch) -> OwnRedis:
    """One that keeps what it was told, as a shop's must that promises units by it."""
    redis = start_redis("--appendonly", "yes", "--appendfsync", "always")
    monkeypatch.setenv("REDIS_URL", redis.address)
    return redis


@pytest.fixture
def host(
    redis: OwnRedis, kind: str, tmp_path: Path, _children_use_the_test_database: None
) -> Iterator[str]:
    with server(log=tmp_path / "server.log", kind=kind) as address:
        yield address


@pytest.mark.parametrize("strategy", ["redis_counter", "redis_lock", "conditional_update"])
def test_a_redis_that_hangs_for_ten_seconds(
    strategy: str, host: str, kind: str, redis: OwnRedis
) -> None:
    def hang() -> None:
        redis.hang()
        time.sleep(HANG_S)
        redis.go_on()

    assert_loses_nothing(strategy, host, kind, Fault(hang))


@pytest.mark.parametrize("strategy", ["redis_counter", "redis_lock"])
def test_a_redis_that_is_killed_and_comes_back(
    strategy: str, host: str, kind: str, redis: OwnRedis
) -> None:
    def die() -> None:
        redis.kill()
        time.sleep(DEAD_S)
        redis.start()

    assert_loses_nothing(strategy, host, kind, Fault(die))


def assert_loses_nothing(strategy: str, host: str, kind: str, fault: Fault) -> None:
    spec = RunSpec(strategy=strategy, units=UNITS, buyers=BUYERS, concurrency=100, server=kind)
    run = perform(spec, host=host, server_started_here=True, progress=fault.strike)
    fault.over()

    attempts = read_record(RUNS_DIR / f"{run.pk}.jsonl").attempts
    codes = {finding["code"] for finding in run.result["audit"]["findings"]}
    if run.result["busy"]:  # a buyer told so may go away without
        codes.discard("undersold")
    assert codes == set()
    assert run.result["busy"] or run.sold == UNITS
    assert run.result["busy"] == 0 or strategy == "redis_lock"
    assert run.result["failed"] == 0
    assert max(map(lasted_s, attempts)) < LONGEST_ANSWER_S
    assert 0 < fault.most_threads <= MOST_THREADS


def lasted_s(attempt: Attempt) -> float:
    return attempt.ended_at - attempt.started_at
