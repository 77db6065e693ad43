"""Loads that strategies are compared under, and what every round of each of them gave."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from django.utils.translation import gettext as _

from inventory.models import CONTROL
from inventory.strategies import STRATEGIES
from loadtests import tables
from loadtests.models import Comparison, LoadRun
from loadtests.runs import RunSpec

CONTROL_SHARE = 10
"""The control gets a tenth of the units, so that demand is there to oversell them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A load that every strategy gets."""

    units: int
    buyers: int
    concurrency: int | None = None
    within_s: float | None = None
    server: str = "wsgi"

    @classmethod
    def of(cls, asked: Comparison | LoadRun) -> Scenario:
        """The load of a comparison, or of a run."""
        return cls(
            units=asked.units,
            buyers=asked.buyers,
            concurrency=asked.concurrency,
            within_s=asked.within_s,
            server=asked.server,
        )

    def title(self) -> str:
        """Say it as a sentence would."""
        facts = {
            "units": self.units,
            "buyers": self.buyers,
            "concurrency": self.concurrency,
            "within": f"{self.within_s or 0:g}",
        }
        if self.within_s:
            return _("%(units)s units, %(buyers)s buyers within %(within)s s") % facts
        return _("%(units)s units, %(buyers)s buyers %(concurrency)s at a time") % facts

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
    comparison: Comparison | None = None
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
            said = _("Ceiling (a page that does nothing): %(speed)s answers/s.")
            notes.append(said % {"speed": f"{ceiling:.0f}"})
            notes.append(tables.no_clear_winner(self.rounds))
        if CONTROL in self.rounds and not self.control_oversold():
            notes.append(
                _("Contention too weak: the control did not oversell. This proves nothing.")
            )
        elif control := self.rounds.get(CONTROL):
            said = _("The control had %(units)s units for the same buyers.")
            notes.append(said % {"units": control[0]["units"]})
        for name in self.rounds:
            if name in STRATEGIES and (remark := STRATEGIES[name].remark()):
                notes.append(f"{name}: {remark}.")
        if any(r["generator_saturated"] for rounds in self.rounds.values() for r in rounds):
            notes.append(
                _("The generator was over 90 percent of a core in some run: speeds are its own.")
            )
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


def generator_of(results: list[ScenarioResult]) -> str:
    """Name what made the load, from the runs themselves."""
    names = {r["generator"] for each in results for runs in each.rounds.values() for r in runs}
    return " and ".join(sorted(names)) or "nothing"
