"""A benchmark as people and programs read it: the terminal, Markdown, JSON."""

from __future__ import annotations

from statistics import median
from typing import Any

from django.utils import timezone

from inventory.models import CONTROL
from inventory.strategies import STRATEGIES
from loadtests import tables
from loadtests.benchmarks import BUYERS_EACH, CROWD, Benchmark
from loadtests.environment import serving
from loadtests.scenarios import ScenarioResult

NOT_IN_EVERY_RUN = ("environment", "over_time")
Section = tuple[str, list[str], list[list[str]]]
"""A title, a header, rows."""


def as_json(benchmark: Benchmark, environment: dict[str, object]) -> dict[str, Any]:
    """Everything, for programs; the environment once, and no run over time: it is kept."""
    return {
        "at": timezone.now().isoformat(timespec="seconds"),
        "environment": environment,
        "generator": benchmark.generator,
        "headline": benchmark.plan.headline(),
        "bars": benchmark.bars(),
        "left_out": benchmark.not_measured(),
        "cells": [_cell(cell) for cell in benchmark.cells.values()],
        "timed": [_cell(cell) for cell in benchmark.timed.values()],
    }


def _cell(cell: ScenarioResult) -> dict[str, Any]:
    body = cell.as_json()
    body["runs"] = {
        name: [{k: v for k, v in run.items() if k not in NOT_IN_EVERY_RUN} for run in runs]
        for name, runs in body["runs"].items()
    }
    return body


def terminal(benchmark: Benchmark) -> str:
    """The tables, for a terminal."""
    lines = []
    for cell in benchmark.headlines().values():
        lines += ["", f"{cell.scenario.server}: {cell.scenario.title()}"]
        lines += [tables.terminal(cell.rows()), *(f"  {note}" for note in cell.notes())]
    for title, header, rows in sections(benchmark):
        lines += ["", title, tables.terminal(rows, header)]
    lines += ["", *(f"LEFT OUT: {what}" for what in benchmark.not_measured())]
    return "\n".join(lines)


def markdown(benchmark: Benchmark, environment: dict[str, object], charts: dict[str, str]) -> str:
    """The same as a document, with its charts (file name to what it shows)."""
    servers = " and ".join(serving(environment, server) for server in benchmark.plan.servers)
    lines = [
        "# Benchmark",
        "",
        f"{timezone.now():%-d %B %Y}, commit {environment['commit']}, {environment['database']},"
        f" {environment['machine']} for everything, {servers}, load by {benchmark.generator}."
        " Medians over the rounds, lowest and highest in brackets.",
    ]
    for name, shown in charts.items():
        lines += ["", f"![{shown}]({name})"]
    for cell in benchmark.headlines().values():
        lines += ["", f"## {cell.scenario.server}: {cell.scenario.title()}", ""]
        lines += [tables.markdown(cell.rows()), "", *(f"- {note}" for note in cell.notes())]
    for title, header, rows in sections(benchmark):
        lines += ["", f"## {title}", "", tables.markdown(rows, header)]
    if benchmark.left_out:
        lines += ["", "## Left out", "", *(f"- {what}" for what in benchmark.not_measured())]
    settings = environment["database_settings"]
    lines += ["", "## Database settings", ""]
    if isinstance(settings, dict):
        lines += [f"- `{name}` = {value}" for name, value in sorted(settings.items())]
    return "\n".join(lines)


def sections(benchmark: Benchmark) -> list[Section]:
    """Every table beside the headline's own, those without rows left out."""
    made = [_bars(benchmark)]
    for server, cell in benchmark.headlines().items():
        made.append(_throughput(benchmark, server))
        made.append(_costs(server, cell))
        made.append(_locks(server, cell))
    for server, cell in benchmark.timed.items():
        made.append(_timings(server, cell))
    return [section for section in made if section[2]]


def _bars(benchmark: Benchmark) -> Section:
    header = ["strategy", "sales/s", "of ceiling", f"at {CROWD} of that", "tries"]
    rows = [
        [
            f"{bar['strategy']}, {bar['server']}",
            _number(bar["sales_per_s"]),
            _share(bar["of_ceiling"]),
            _share(bar["crowd_of_headline"]),
            _number(bar["attempts_mean"], digits=2),
        ]
        for bar in benchmark.bars()
    ]
    return f"Against the bars, {benchmark.plan.headline()} at a time", header, rows


def _throughput(benchmark: Benchmark, server: str) -> Section:
    """Goodput by how many buy at a time; the speed of promises is marked."""
    cells = {at: cell for (kind, at), cell in sorted(benchmark.cells.items()) if kind == server}
    names = [n for n in STRATEGIES if n != CONTROL and any(n in c.rounds for c in cells.values())]
    rows = [[name, *(_goodput(cell, name) for cell in cells.values())] for name in names]
    ceilings = [_number(cell.ceiling_per_s()) for cell in cells.values()]
    if rows:
        rows.append(["ceiling (a page that does nothing)", *ceilings])
    few = f"; {BUYERS_EACH} buyers where one buys at a time" if 1 in cells else ""
    return (
        f"{server}: sales a second by buyers at a time{few}",
        ["strategy", *map(str, cells)],
        rows,
    )


def _goodput(cell: ScenarioResult, name: str) -> str:
    promised = any(run.get("accepted") for run in cell.rounds.get(name, []))
    return _number(cell.speed_per_s(name)) + (" accepted" if promised else "")


def _costs(server: str, cell: ScenarioResult) -> Section:
    programs = ["shop", "database", "Redis", "consumer"]
    header = ["strategy", *(f"{program} CPU ms" for program in programs), "MB a worker"]
    rows = [
        [
            name,
            *(
                _number(_median(runs, "cost", f"{part}_cpu_ms_per_sale"), digits=2)
                for part in ("server", "database", "redis", "consumer")
            ),
            _number(_largest_worker(runs)),
        ]
        for name, runs in _fair(cell)
    ]
    return f"{server}: what one sale costs", header, rows


def _locks(server: str, cell: ScenarioResult) -> Section:
    """InnoDB's counters, of one run."""
    counters = list(dict.fromkeys(key for _, runs in _fair(cell) for key in runs[0]["innodb"]))
    rows = [
        [name, *(_number(_median(runs, "innodb", counter)) for counter in counters)]
        for name, runs in _fair(cell)
        if counters
    ]
    return f"{server}: InnoDB's counters over one run", ["strategy", *counters], rows


def _timings(server: str, cell: ScenarioResult) -> Section:
    names = list(dict.fromkeys(key for _, runs in _fair(cell) for key in runs[0]["timing_ms"]))
    rows = [
        [strategy, *(_number(_median(runs, "timing_ms", name), digits=2) for name in names)]
        for strategy, runs in _fair(cell)
        if names
    ]
    return f"{server}: where a sale's time goes, median ms", ["strategy", *names], rows


def _fair(cell: ScenarioResult) -> list[tuple[str, list[dict[str, Any]]]]:
    return [(n, cell.rounds[n]) for n in STRATEGIES if n != CONTROL and cell.rounds.get(n)]


def _median(runs: list[dict[str, Any]], part: str, name: str) -> float | None:
    values = [run[part][name] for run in runs if run[part].get(name) is not None]
    return median(values) if values else None


def _largest_worker(runs: list[dict[str, Any]]) -> float | None:
    sizes = [max(run["cost"]["worker_rss_mb"]) for run in runs if run["cost"].get("worker_rss_mb")]
    return median(sizes) if sizes else None


def _number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
