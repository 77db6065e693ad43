"""Comparing strategies: the same loads, in rounds whose order rotates, beside a ceiling."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from inventory.errors import StrategyUnavailable
from inventory.models import CONTROL
from inventory.strategies import STRATEGIES, usable
from loadtests import tables
from loadtests.generators import Generator
from loadtests.runs import LOCUST, RunSpec, Setting, measure_ceiling, perform

CONTROL_SHARE = 10
"""The control gets a tenth of the units, so that demand is there to oversell them."""
Announce = Callable[[str], tables.ProgressBar]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A load that every strategy gets."""

    units: int
    buyers: int
    concurrency: int | None = None
    within_s: float | None = None
    server: str = "wsgi"

    def title(self) -> str:
        """Say it as a sentence would."""
        how = f"within {self.within_s:g} s" if self.within_s else f"{self.concurrency} at a time"
        return f"{self.units} units, {self.buyers} buyers {how}"

    def spec(self, strategy: str, seed: int) -> RunSpec:
        """The run of one strategy under this load."""
        units = self.units
        if strategy == CONTROL:
            units = min(units, max(1, self.buyers // CONTROL_SHARE))
        return RunSpec(
            strategy=strategy,
            units=units,
            buyers=self.buyers,
            concurrency=self.concurrency,
            within_s=self.within_s,
            server=self.server,
            seed=seed,
        )


ORIGINAL_EXPERIMENT = [
    Scenario(units=100, buyers=100, concurrency=100),
    Scenario(units=1000, buyers=1000, concurrency=100),
    Scenario(units=1000, buyers=1000, concurrency=200),
]


@dataclass(slots=True)
class ScenarioResult:
    """What every round of every strategy gave under one load."""

    scenario: Scenario
    rounds: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    ceilings_per_s: list[float] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)

    def ceiling_per_s(self) -> float | None:
        """The median over the rounds; None where arrivals set the pace."""
        return median(self.ceilings_per_s) if self.ceilings_per_s else None

    def speed_per_s(self, name: str) -> float | None:
        """The median goodput of a strategy; None unless every round's audit was clean."""
        speeds = [r["sales_per_s"] for r in self.rounds.get(name, []) if r["audit"]["ok"]]
        whole = speeds and all(speeds) and len(speeds) == len(self.rounds[name])
        return median(speeds) if whole else None

    def control_oversold(self) -> bool:
        """Whether the load was strong enough to prove anything."""
        control = self.rounds.get(CONTROL, [])
        return bool(control) and all(result["oversold"] > 0 for result in control)

    def clean(self) -> bool:
        """Whether every audit but the control's passed."""
        return all(
            result["audit"]["ok"]
            for name, results in self.rounds.items()
            if name != CONTROL
            for result in results
        )

    def rows(self) -> list[list[str]]:
        """The table, in the order of the registry, with the unavailable last."""
        ceiling = self.ceiling_per_s()
        rows = [
            tables.row(name, self.rounds[name], ceiling)
            for name in STRATEGIES
            if name in self.rounds
        ]
        return rows + [tables.unavailable_row(*pair) for pair in self.unavailable.items()]

    def notes(self) -> list[str]:
        """What a reader must know beside the table."""
        notes = []
        if ceiling := self.ceiling_per_s():
            notes.append(f"Ceiling (a page that does nothing): {ceiling:.0f} answers/s.")
            notes.append(tables.no_clear_winner(self.rounds))
        if CONTROL in self.rounds and not self.control_oversold():
            notes.append("Contention too weak: the control did not oversell. This proves nothing.")
        elif control := self.rounds.get(CONTROL):
            notes.append(f"The control had {control[0]['units']} units for the same buyers.")
        for name in self.rounds:
            if remark := STRATEGIES[name].remark():
                notes.append(f"{name}: {remark}.")
        if any(r["generator_saturated"] for rounds in self.rounds.values() for r in rounds):
            notes.append("The generator was over 90 % of a core in some run: speeds are its own.")
        return [note for note in notes if note]

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        return {
            "units": self.scenario.units,
            "buyers": self.scenario.buyers,
            "concurrency": self.scenario.concurrency,
            "within_s": self.scenario.within_s,
            "server": self.scenario.server,
            "ceilings_per_s": [round(ceiling, 1) for ceiling in self.ceilings_per_s],
            "control_oversold": self.control_oversold(),
            "unavailable": self.unavailable,
            "runs": dict(self.rounds),
        }


def compare(
    scenario: Scenario,
    *,
    names: list[str],
    rounds: int,
    host: str,
    server_started_here: bool,
    announce: Announce,
    generator: Generator = LOCUST,
) -> ScenarioResult:
    """Run every named strategy `rounds` times under one load, in rotated order."""
    result = ScenarioResult(scenario=scenario)
    setting = Setting(host=host, server_started_here=server_started_here, generator=generator)
    able, result.unavailable = sorted_out(names)
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
    scenario, host = result.scenario, setting.host
    if scenario.concurrency:
        result.ceilings_per_s.append(
            measure_ceiling(
                host=host, concurrency=scenario.concurrency, generator=setting.generator
            )
        )
    for name in names:
        progress = announce(f"{title}, {name}:")
        run = perform(
            scenario.spec(name, seed=seed),
            host=host,
            server_started_here=setting.server_started_here,
            generator=setting.generator,
            progress=progress,
        )
        progress.clear()
        result.rounds[name].append(run.result)


def generator_of(results: list[ScenarioResult]) -> str:
    """Name what made the load, from the runs themselves."""
    names = {r["generator"] for each in results for runs in each.rounds.values() for r in runs}
    return " and ".join(sorted(names)) or "nothing"


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
