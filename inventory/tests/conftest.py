"""What the tests of the Redis counter share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from inventory.strategies import STRATEGIES
from inventory.tests.servers import OwnRedis, RealConsumer, redis_program

StartRedis = Callable[..., OwnRedis]
StartConsumer = Callable[..., RealConsumer]


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget which counters were checked in the test before: product ids come again."""
    monkeypatch.setattr(STRATEGIES["redis_counter"], "_checked_at", {})


@pytest.fixture
def start_redis(tmp_path: Path, settings: Settings) -> Iterator[StartRedis]:
    """Start a Redis of the test's own, and let the shop use it."""
    program = redis_program()
    if program is None and os.environ.get("CI") == "true":
        pytest.fail("CI must have the program of a Redis server")
    if program is None:
        pytest.skip("needs the program of a Redis server")
    started: list[OwnRedis] = []

    def start(*options: str, database: int = 1) -> OwnRedis:
        redis = OwnRedis(program, tmp_path, *options)
        started.append(redis)
        locks = {**settings.CACHES["locks"], "LOCATION": f"{redis.address}/{database}"}
        settings.CACHES = {**settings.CACHES, "locks": locks}
        return redis

    yield start
    for redis in started:
        redis.kill()


@pytest.fixture
def own_redis(start_redis: StartRedis) -> OwnRedis:
    """A Redis that the test may wipe, hang and kill."""
    return start_redis()


@pytest.fixture
def start_consumer() -> Iterator[StartConsumer]:
    """Start real consumers; whatever still runs at the end is killed."""
    started: list[RealConsumer] = []

    def start(*options: str, preparation: str = "") -> RealConsumer:
        started.append(RealConsumer(*options, preparation=preparation))
        return started[-1]

    yield start
    for consumer in started:
        if consumer.process.poll() is None:
            consumer.kill()
