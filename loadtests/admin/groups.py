"""Runs side by side: those under one load on one server are a group, with its charts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from django.utils.translation import gettext as _

from inventory.charts import Chart, Series
from inventory.models import CONTROL
from inventory.strategies import STRATEGIES
from loadtests.models import LoadRun
from loadtests.scenarios import Scenario, ScenarioResult
from loadtests.tables import HEADER

ENDED = (LoadRun.Status.PASSED, LoadRun.Status.FAILED)
Key = tuple[str, str, int, int | None, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The ended runs under one load, and what they say together."""

    number: int
    database: str
    result: ScenarioResult
    runs: list[LoadRun]

    def title(self) -> str:
        """Say where and under which load."""
        scenario = self.result.scenario
        return f"{scenario.title()} · {scenario.server} · {self.database}"

    def failed(self) -> list[LoadRun]:
        """The runs whose audit failed, the control's apart: it is meant to."""
        bad = LoadRun.Status.FAILED
        return [run for run in self.runs if run.status == bad and run.strategy != CONTROL]

    def control(self) -> str:
        """What the control says of this load; nothing where it did not run."""
        if CONTROL not in self.result.rounds:
            return ""
        if self.result.control_oversold():
            return _("The control oversold, as it must: the load was strong enough.")
        return _("The control did not oversell: the load was too weak to prove anything.")

    def header(self) -> list[str]:
        """The columns of its table."""
        return [_(name) for name in HEADER]

    def charts(self) -> list[Chart]:
        """Speed with its spread, and the share of the ceiling."""
        names = [name for name in STRATEGIES if self.result.speed_per_s(name) is not None]
        names = [name for name in names if name != CONTROL]
        return [chart for chart in (self._speeds(names), self._shares(names)) if chart.labels]

    def _speeds(self, names: list[str]) -> Chart:
        speeds = {name: self.speeds(name) for name in names}
        middle = {name: median(values) for name, values in speeds.items()}
        best = max(middle, key=lambda name: middle[name], default="")
        said = _("Highest median: %(best)s with %(speed)s a second, of %(count)s strategies.")
        return Chart(
            key=f"speeds-{self.number}",
            kind="bars",
            title=_("Sales a second"),
            summary=said % {"best": best, "speed": f"{middle[best]:g}", "count": len(names)}
            if best
            else "",
            x=_("strategy"),
            y=_("sales a second: median, range"),
            labels=[self._label(name) for name in names],
            series=[
                Series(
                    name=_("sales a second"),
                    values=[round(middle[name], 1) for name in names],
                    spread=[(min(speeds[name]), max(speeds[name])) for name in names],
                )
            ],
        )

    def _shares(self, names: list[str]) -> Chart:
        ceiling = self.result.ceiling_per_s()
        shown = names if ceiling else []
        said = _("The ceiling, a page that does nothing, was %(ceiling)s answers a second.")
        return Chart(
            key=f"shares-{self.number}",
            kind="bars",
            title=_("Share of the ceiling"),
            summary=said % {"ceiling": f"{ceiling or 0:.0f}"},
            x=_("strategy"),
            y=_("percent of the ceiling"),
            labels=[self._label(name) for name in shown],
            series=[
                Series(
                    name=_("percent"),
                    values=[
                        round(100 * (self.result.speed_per_s(name) or 0) / (ceiling or 1), 1)
                        for name in shown
                    ],
                )
            ],
        )

    def speeds(self, name: str) -> list[float]:
        """The goodput of each round of a strategy."""
        return [each["sales_per_s"] for each in self.result.rounds[name]]

    def _label(self, name: str) -> str:
        accepted = any(each.get("accepted") for each in self.result.rounds[name])
        return f"{name} ({_('accepted')})" if accepted else name


def groups_of(runs: Iterable[LoadRun], unavailable: dict[str, str] | None = None) -> list[Group]:
    """Put the runs that ended into groups, in the order in which they came."""
    found: dict[tuple[Key, int], list[LoadRun]] = defaultdict(list)
    ended = sorted((run for run in runs if run.status in ENDED), key=lambda run: run.pk)
    for run in ended:
        if run.strategy != CONTROL:
            found[_load(run), run.units].append(run)
    for run in ended:
        if run.strategy == CONTROL:
            joined = [key for key in found if key[0] == _load(run)]
            for key in joined or [(_load(run), run.units)]:
                found[key].append(run)
    return [_group(number, runs, unavailable or {}) for number, runs in enumerate(found.values())]


def _load(run: LoadRun) -> Key:
    """What must be the same for two runs to be compared; the control has units of its own."""
    return run.database, run.server, run.buyers, run.concurrency, run.within_s


def _group(number: int, runs: list[LoadRun], unavailable: dict[str, str]) -> Group:
    result = ScenarioResult(scenario=Scenario.of(runs[0]), unavailable=unavailable)
    ceilings = {(r.comparison_id, r.round): r.ceiling_per_s for r in runs if r.ceiling_per_s}
    result.ceilings_per_s = list(ceilings.values())
    for run in runs:
        result.rounds[run.strategy].append(run.result)
    return Group(number=number, database=runs[0].database, result=result, runs=runs)


def by_concurrency(groups: list[Group]) -> list[Chart]:
    """Throughput against buyers at a time, for each server on which several were played."""
    places: dict[tuple[str, str], dict[int, Group]] = defaultdict(dict)
    for group in sorted(groups, key=lambda group: group.result.scenario.buyers):
        scenario = group.result.scenario
        if scenario.concurrency:
            places[scenario.server, group.database][scenario.concurrency] = group
    several = {place: at for place, at in places.items() if len(at) > 1}
    return [
        _throughput(f"throughput-{number}", " · ".join(place), at)
        for number, (place, at) in enumerate(several.items())
    ]


def _throughput(key: str, place: str, groups: dict[int, Group]) -> Chart:
    counts = sorted(groups)
    results = {at: groups[at].result for at in counts}
    names = [
        name
        for name in STRATEGIES
        if name != CONTROL and any(each.speed_per_s(name) for each in results.values())
    ]
    lines = [
        Series(name=name, values=[results[at].speed_per_s(name) for at in counts]) for name in names
    ]
    return Chart(
        key=key,
        kind="line",
        title=_("Throughput against buyers at a time: %(place)s") % {"place": place},
        summary=_("%(count)s strategies, from %(least)s to %(most)s buyers at a time.")
        % {"count": len(names), "least": counts[0], "most": counts[-1]},
        x=_("buyers at a time"),
        y=_("sales a second, median"),
        labels=counts,
        series=lines,
        log_x=True,
    )
