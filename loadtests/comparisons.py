"""Comparing strategies: the same loads, in rounds whose order rotates, beside a ceiling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from inventory.errors import StrategyUnavailable
from inventory.strategies import usable
from loadtests.generators import Generator
from loadtests.models import Comparison
from loadtests.runs import LOCUST, Setting, Turn, measure_ceiling, perform
from loadtests.scenarios import Scenario, ScenarioResult

CEILING = "ceiling"
"""The step of a round that is no strategy's."""


class Bar(Protocol):
    """Shows how far one step of a round is."""

    def __call__(self, done: int, of: int) -> None:
        """Show `done` of `of` buyers."""

    def clear(self) -> None:
        """The step is over."""


Announce = Callable[[str, str], Bar]
"""Makes the bar of a step, from the round's title and the step's name."""


def compare(
    scenario: Scenario,
    *,
    names: list[str],
    rounds: int,
    host: str,
    server_started_here: bool,
    announce: Announce,
    generator: Generator = LOCUST,
    comparison: Comparison | None = None,
) -> ScenarioResult:
    """
    Run every named strategy `rounds` times under one load, in rotated order.

    The runs are kept as those of `comparison`, if there is one.
    """
    result = ScenarioResult(scenario=scenario, comparison=comparison)
    setting = Setting(host=host, server_started_here=server_started_here, generator=generator)
    able, result.unavailable = sorted_out(names)
    if comparison is not None:
        Comparison.objects.filter(pk=comparison.pk).update(unavailable=result.unavailable)
    for number in range(rounds):
        title = f"round {number + 1}/{rounds}"
        play_round(
            result,
            names=rotated(able, number),
            setting=setting,
            title=title,
            seed=number + 1,
            announce=announce,
        )
    return result


def play_round(
    result: ScenarioResult,
    *,
    names: list[str],
    setting: Setting,
    title: str,
    seed: int,
    announce: Announce,
) -> None:
    """Measure the ceiling, then run each of the strategies once, and add that to the result."""
    scenario, host, ceiling_per_s = result.scenario, setting.host, None
    if scenario.concurrency:
        bar = announce(title, CEILING)
        ceiling_per_s = measure_ceiling(
            host=host, concurrency=scenario.concurrency, generator=setting.generator
        )
        bar.clear()
        result.ceilings_per_s.append(ceiling_per_s)
    turn = Turn(comparison=result.comparison, round=seed, ceiling_per_s=ceiling_per_s)
    for name in names:
        progress = announce(title, name)
        run = perform(
            scenario.spec(name, seed=seed),
            host=host,
            server_started_here=setting.server_started_here,
            generator=setting.generator,
            progress=progress,
            turn=turn,
        )
        progress.clear()
        result.rounds[name].append(run.result)


def sorted_out(names: list[str]) -> tuple[list[str], dict[str, str]]:
    """Tell the strategies that can run here from those that cannot, with the reason why not."""
    able, unavailable = [], {}
    for name in names:
        try:
            usable(name)
            able.append(name)
        except StrategyUnavailable as error:
            unavailable[name] = error.reason
    return able, unavailable


def rotated(names: list[str], number: int) -> list[str]:
    """The order of round `number`: each strategy gets every place in turn."""
    if not names:
        return []
    first = number % len(names)
    return names[first:] + names[:first]
