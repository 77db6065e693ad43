"""What the tests of the Redis counter share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from inventory.strategies import STRATEGIES
from inventory.tests.servers import RealConsumer

StartConsumer = Callable[..., RealConsumer]


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget which counters were checked in the test before: product ids come again."""
    monkeypatch.setattr(STRATEGIES["redis_counter"], "_checked_at", {})


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
