"""
The benchmark: every strategy, on each server, from one buyer at a time to a thousand.

The headline load is played in rounds whose order rotates, with the ceiling of each
server in each round; one more round asks the shop where the time went; the other
loads follow, the heaviest first. Every step has a server of its own, warmed up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from django.core.management.base import CommandError

from inventory.models import CONTROL
from inventory.strategies import STRATEGIES
from loadtests import processes
from loadtests.comparisons import Announce, play_round, rotated, sorted_out
from loadtests.generators import Generator
from loadtests.processes import ServerNotStarted
from loadtests.runs import RUNS_DIR, Setting, perform
from loadtests.scenarios import Scenario, ScenarioResult

HEADLINE = 100
CROWD = 1000
CONCURRENCIES = [1, 10, 100, 200, 500, 1000]
BUYERS_EACH = 200
"""No connection buys more often than this: one alone would take minutes for a thousand."""
WARM_UP_BUYERS = 300
Say = Callable[[str], object]
Save = Callable[["Benchmark"], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One round of one load on one server."""

    scenario: Scenario
    names: list[str]
    number: int
    timed: bool = False

    def title(self) -> str:
        """Say it in a line."""
        what = "where the time goes" if self.timed else f"round {self.number + 1}"
        return f"{self.scenario.server}, {self.scenario.concurrency} at a time, {what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure, and how often."""

    names: list[str]
    servers: list[str]
    concurrencies: list[int]
    buyers: int
    rounds: int
    other_rounds: int

    def headline(self) -> int:
        """The load that gets the rounds: 100 at a time, or the first one asked for."""
        return HEADLINE if HEADLINE in self.concurrencies else self.concurrencies[0]

    def scenario(self, server: str, concurrency: int) -> Scenario:
        """One load: a unit for everybody."""
        buyers = min(self.buyers, BUYERS_EACH * concurrency)
        return Scenario(units=buyers, buyers=buyers, concurrency=concurrency, server=server)

    def steps(self, able: list[str]) -> Iterator[Step]:
        """Every step, in order; the control joins the first round of the headline."""
        fair = [name for name in able if name != CONTROL]
        control = [name for name in able if name == CONTROL]
        for number in range(self.rounds):
            for server in rotated(self.servers, number):
                names = rotated(fair, number) + (control if number == 0 else [])
                yield self._step(server, self.headline(), names, number)
        for server in self.servers:
            yield Step(
                scenario=self.scenario(server, self.headline()), names=fair, number=0, timed=True
            )
        others = sorted(set(self.concurrencies) - {self.headline()}, reverse=True)
        for number in range(self.other_rounds):
            for concurrency in others:
                for server in rotated(self.servers, number):
                    yield self._step(server, concurrency, rotated(fair, number), number)

    def _step(self, server: str, concurrency: int, names: list[str], number: int) -> Step:
        return Step(scenario=self.scenario(server, concurrency), names=names, number=number)


@dataclass(slots=True, kw_only=True)
class Benchmark:
    """All that was measured, and what was not."""

    plan: Plan
    generator: str
    unavailable: dict[str, str] = field(default_factory=dict)
    cells: dict[tuple[str, int], ScenarioResult] = field(default_factory=dict)
    timed: dict[str, ScenarioResult] = field(default_factory=dict)
    left_out: list[tuple[Step, str]] = field(default_factory=list)

    def result_for(self, step: Step) -> ScenarioResult:
        """Where a step's runs belong; timed ones never mix with the others."""
        made = ScenarioResult(scenario=step.scenario, unavailable=self.unavailable)
        if step.timed:
            return self.timed.setdefault(step.scenario.server, made)
        return self.cells.setdefault((step.scenario.server, step.scenario.concurrency or 0), made)

    def not_measured(self) -> list[str]:
        """What was left out and why, a server that measured nothing in one line."""
        measured = {server for server, _ in self.cells}
        said = [
            f"{step.title() if step.scenario.server in measured else step.scenario.server}: {why}"
            for step, why in self.left_out
        ]
        return list(dict.fromkeys(said))

    def headlines(self) -> dict[str, ScenarioResult]:
        """The headline's result of each server."""
        wanted = self.plan.headline()
        return {server: cell for (server, at), cell in self.cells.items() if at == wanted}

    def clean(self) -> bool:
        """Whether every audit but the control's passed."""
        return all(cell.clean() for cell in (*self.cells.values(), *self.timed.values()))

    def control_failed(self) -> bool:
        """Whether the control ran and did not oversell: then nothing is proved."""
        ran = [cell for cell in self.cells.values() if CONTROL in cell.rounds]
        return not all(cell.control_oversold() for cell in ran)

    def bars(self) -> list[dict[str, Any]]:
        """Each strategy against what is asked of it, on each server."""
        return [
            self._bar(server, name)
            for server, cell in self.headlines().items()
            for name in STRATEGIES
            if name in cell.rounds and name != CONTROL
        ]

    def _bar(self, server: str, name: str) -> dict[str, Any]:
        cell = self.headlines()[server]
        crowd = self.cells.get((server, CROWD))
        speed, ceiling = cell.speed_per_s(name), cell.ceiling_per_s()
        at_crowd = crowd.speed_per_s(name) if crowd else None
        tries = [r["attempts_mean"] for r in cell.rounds[name] if r["attempts_mean"]]
        return {
            "server": server,
            "strategy": name,
            "sales_per_s": speed,
            "of_ceiling": speed / ceiling if speed and ceiling else None,
            "crowd_of_headline": at_crowd / speed if speed and at_crowd else None,
            "attempts_mean": median(tries) if tries else None,
        }


def play(
    plan: Plan,
    *,
    generator: Generator,
    budget_s: float,
    say: Say,
    announce: Announce,
    save: Save,
) -> Benchmark:
    """
    Play every step there is time for, saving after each.

    A step that could not be played is left out with its reason; so is a server that
    does not start. Raises InventoryError when another run holds the product.
    """
    able, unavailable = sorted_out(plan.names)
    benchmark = Benchmark(plan=plan, generator=generator.name, unavailable=unavailable)
    deadline = time.monotonic() + budget_s
    missing: dict[str, str] = {}
    for step in plan.steps(able):
        reason = missing.get(step.scenario.server)
        if time.monotonic() > deadline:
            reason = "no time left"
        begun_at = time.monotonic()
        try:
            if reason is None:
                _play(step, benchmark, generator, announce)
        except ServerNotStarted as error:
            reason = missing[step.scenario.server] = _last_line(error)
        except CommandError as error:
            reason = _last_line(error)
        if reason is not None:
            benchmark.left_out.append((step, reason))
        say(f"{step.title()}: {reason or f'{time.monotonic() - begun_at:.0f} s'}")
        save(benchmark)
    return benchmark


def _play(step: Step, benchmark: Benchmark, generator: Generator, announce: Announce) -> None:
    RUNS_DIR.mkdir(parents=True, exist_ok=True)
    scenario = step.scenario
    log = RUNS_DIR / "server.log"
    with processes.server(log=log, kind=scenario.server, timed=step.timed) as host:
        setting = Setting(host=host, server_started_here=True, generator=generator)
        _warm_up(step, setting)
        play_round(
            benchmark.result_for(step),
            names=step.names,
            setting=setting,
            title=step.title(),
            seed=step.number + 1,
            announce=announce,
        )


def _warm_up(step: Step, setting: Setting) -> None:
    """Let connections, compiled queries and caches be made by a run that does not count."""
    buyers = min(WARM_UP_BUYERS, step.scenario.buyers)
    scenario = Scenario(
        units=buyers,
        buyers=buyers,
        concurrency=step.scenario.concurrency,
        server=step.scenario.server,
    )
    perform(
        scenario.spec(step.names[0], seed=1),
        host=setting.host,
        server_started_here=True,
        generator=setting.generator,
    )


def _last_line(error: CommandError) -> str:
    """The end of what a program said, without the time and the level of its log."""
    line = next((line for line in reversed(str(error).splitlines()) if line.strip()), "")
    return line.rpartition("] ")[2]
