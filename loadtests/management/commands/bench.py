from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from inventory.errors import InventoryError
from inventory.strategies import STRATEGIES
from loadtests import bench_report, charts, tables
from loadtests.benchmarks import CONCURRENCIES, Benchmark, Plan, play
from loadtests.environment import describe
from loadtests.generators import GENERATORS, cheapest
from loadtests.interrupts import interruptible
from loadtests.processes import SERVERS

CHARTS = {
    "throughput": "Sales a second against buyers at a time, per strategy",
    "latency": "Latency percentiles of sold purchases, per strategy",
}


class Command(BaseCommand):
    help = (
        "Benchmark every strategy on every server, from 1 to 1000 buyers at a time: a table,"
        " JSON, Markdown and charts. Exit 1 when an audit fails or the control does not oversell."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        today = f"{timezone.now():%Y-%m-%d}"
        output = settings.BASE_DIR / "docs" / "results" / f"{today}-bench"
        parser.add_argument("--strategies", nargs="+", choices=list(STRATEGIES))
        parser.add_argument("--servers", nargs="+", choices=list(SERVERS), default=list(SERVERS))
        parser.add_argument("--concurrency", type=int, nargs="+", default=CONCURRENCIES)
        parser.add_argument("--rounds", type=int, default=5, help="Of 100 buyers at a time.")
        parser.add_argument("--other-rounds", type=int, default=1, help="Of the other loads.")
        parser.add_argument("--buyers", type=int, default=1000)
        parser.add_argument(
            "--generator", choices=list(GENERATORS), help="Default: wrk if installed, else locust."
        )
        parser.add_argument("--budget-minutes", type=float, default=60.0)
        parser.add_argument(
            "--output", type=Path, default=output, help="Files to write, without their endings."
        )

    def handle(self, *args: Any, output: Path, **options: Any) -> None:
        """Measure, print, write, and tell the truth in the exit code."""
        plan = _plan(options)
        generator = GENERATORS[options["generator"] or cheapest()]()
        environment = describe(server_started_here=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        self.stdout.write(f"Load by {generator.name}.")
        try:
            with interruptible():
                benchmark = play(
                    plan,
                    generator=generator,
                    budget_s=60 * options["budget_minutes"],
                    say=self._say,
                    announce=tables.ProgressBar,
                    save=lambda seen: _write(output, seen, environment, drawn={}),
                )
        except InventoryError as error:
            raise CommandError(str(error)) from error
        self._say(bench_report.terminal(benchmark))
        _write(output, benchmark, environment, drawn=self._draw(output))
        self._say(f"Written: {output}.json and .md")
        if not benchmark.cells or not benchmark.clean() or benchmark.control_failed():
            raise SystemExit(1)

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    def _draw(self, output: Path) -> dict[str, str]:
        """Draw the charts beside the JSON; gives their names and what they show."""
        paths = {name: _beside(output, f"-{name}.svg") for name in CHARTS}
        report = json.loads(_beside(output, ".json").read_text())
        try:
            drawn = charts.draw(report, **paths)
        except ImportError:
            self._say("The charts were not drawn: pip install -r requirements-dev.txt")
            return {}
        return {paths[name].name: CHARTS[name] for name in drawn}


def _plan(options: dict[str, Any]) -> Plan:
    for name in ("rounds", "buyers"):
        if options[name] < 1:
            raise CommandError(f"--{name} must be at least 1.")
    if min(options["concurrency"]) < 1:
        raise CommandError("--concurrency must be at least 1.")
    return Plan(
        names=options["strategies"] or list(STRATEGIES),
        servers=options["servers"],
        concurrencies=options["concurrency"],
        buyers=options["buyers"],
        rounds=options["rounds"],
        other_rounds=max(0, options["other_rounds"]),
    )


def _write(
    output: Path, benchmark: Benchmark, environment: dict[str, object], drawn: dict[str, str]
) -> None:
    body = bench_report.as_json(benchmark, environment)
    _beside(output, ".json").write_text(json.dumps(body, indent=1) + "\n")
    text = bench_report.markdown(benchmark, environment, drawn)
    _beside(output, ".md").write_text(text + "\n")


def _beside(output: Path, ending: str) -> Path:
    return output.with_name(output.name + ending)
