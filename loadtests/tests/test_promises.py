"""Runs whose buyers are promised a unit first: what is waited for, and which speed is told."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from inventory.purchases import purchase
from inventory.strategies import STRATEGIES
from loadtests import runs
from loadtests.generators import Generator, Load
from loadtests.generators.base import Progress, no_progress
from loadtests.models import LoadRun
from loadtests.records import Attempt, ClientRecord
from loadtests.runs import RunSpec, perform
from loadtests.tables import summary

pytestmark = pytest.mark.django_db(transaction=True)
NAME = "conditional_update"


class Promising(Generator):
    """Buys in this process and reports each sale as a promise, or only pretends to buy."""

    name = "promises"
    lies = False
    asks_again = False
    last_version: int | None = None

    def prepare(self, load: Load) -> None:
        """See Generator."""

    def buy(self, load: Load, progress: Progress = no_progress) -> ClientRecord:
        """See Generator."""
        attempts = [self._buy_one(load, number) for number in range(load.buyers)]
        if self.asks_again:
            late = attempts[-1].ended_at + 5
            attempts.append(
                replace(attempts[-1], outcome="replayed", version=self.last_version, ended_at=late)
            )
        return ClientRecord(attempts=attempts, generator_cpu_percent=1.0)

    def ceiling_per_s(self, *, host: str, concurrency: int, directory: Path) -> float:
        """See Generator."""
        return 1.0

    def _buy_one(self, load: Load, number: int) -> Attempt:
        key, started_at = uuid.uuid4(), time.monotonic()
        order = uuid.uuid4()
        if not self.lies:
            buyer = f"guest:{number}"
            receipt = purchase(slug=load.product, quantity=1, buyer=buyer, key=key)
            order, self.last_version = receipt.order, receipt.stock_version
        return Attempt(
            buyer=number,
            key=key,
            quantity=1,
            intended_at=started_at,
            started_at=started_at,
            ended_at=time.monotonic(),
            status=202,
            outcome="accepted",
            order=order,
        )


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch) -> RunSpec:
    """A run at whose end three purchases are not written yet."""
    left = iter([3, 2, 0])
    monkeypatch.setattr(STRATEGIES[NAME], "pending", lambda product_id: next(left))
    return RunSpec(strategy=NAME, units=5, buyers=5, concurrency=1)


def test_waits_for_what_was_accepted_and_tells_the_speed_of_accepting(spec: RunSpec) -> None:
    run = perform(spec, host="http://h", server_started_here=False, generator=Promising())

    assert run.result["audit"]["findings"] == []
    assert (run.sold, run.result["accepted"]) == (5, 5)
    assert run.sales_per_s == run.result["accepted_per_s"] > 0
    assert run.result["drain_s"] == 0, "these were written before they were promised"
    assert run.result["cost"] == {}, "not started here"
    assert "5 accepted (that is the speed above)" in summary(run)


def test_what_is_not_written_in_time_has_no_drain(
    spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "wait_until_drained", lambda pending: False)
    run = perform(spec, host="http://h", server_started_here=False, generator=Promising())
    assert (run.result["drain_s"], run.result["drained_per_s"]) == (None, None)


def test_who_asks_again_later_does_not_slow_the_promises_down(spec: RunSpec) -> None:
    generator = Promising()
    generator.asks_again = True

    run = perform(spec, host="http://h", server_started_here=False, generator=generator)

    assert run.result["audit"]["findings"] == []
    assert run.result["duration_s"] > 5
    assert run.sales_per_s == run.result["accepted_per_s"] > 1


def test_a_promise_that_was_not_kept_fails_the_run_and_has_no_speed(spec: RunSpec) -> None:
    liar = Promising()
    liar.lies = True

    run = perform(spec, host="http://h", server_started_here=False, generator=liar)

    codes = {finding["code"] for finding in run.result["audit"]["findings"]}
    assert run.status == LoadRun.Status.FAILED
    assert codes == {"accepted_without_order"}
    for speed in ("sales_per_s", "accepted_per_s", "drain_s", "drained_per_s"):
        assert run.result[speed] is None
