from __future__ import annotations

import json
from argparse import ArgumentParser
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from inventory.errors import InventoryError
from inventory.strategies import STRATEGIES
from loadtests import tables
from loadtests.comparisons import compare
from loadtests.environment import describe, serving
from loadtests.generators import GENERATORS
from loadtests.interrupts import interruptible
from loadtests.processes import SERVERS, server
from loadtests.queue import begin_now, kept
from loadtests.runs import RUNS_DIR
from loadtests.scenarios import ORIGINAL_EXPERIMENT, Scenario, ScenarioResult, generator_of


class Command(BaseCommand):
    help = (
        "Run every strategy under the same loads, in rounds whose order rotates. Without"
        " options: the original experiment (100 buyers at once; 1000 buyers 100 and 200 at a time)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--rounds", type=int, default=3)
        parser.add_argument("--buyers", type=int, help="One purchase each (default 1000).")
        parser.add_argument("--units", type=int, help="Units to sell (default: one per buyer).")
        parser.add_argument("--concurrency", type=int, nargs="+", help="Buyers at a time.")
        parser.add_argument("--within", type=float, help="Spread the buyers over these seconds.")
        parser.add_argument("--strategies", nargs="+", choices=list(STRATEGIES))
        parser.add_argument("--server", choices=list(SERVERS), default="wsgi")
        parser.add_argument("--generator", choices=list(GENERATORS), default="locust")
        parser.add_argument("--demo", action="store_true", help="The two sales of `make demo`.")
        parser.add_argument("--host", help="A running shop; without it one is started here.")
        parser.add_argument("--json", type=Path, help="Write every figure to this file.")
        parser.add_argument("--markdown", type=Path, help="Write the tables to this file.")

    def handle(self, *args: Any, host: str | None, **options: Any) -> None:
        """Compare, print, and exit 1 when an audit fails or the control does not oversell."""
        scenarios = [replace(each, server=options["server"]) for each in _scenarios(options)]
        results = []
        options["playing"] = GENERATORS[options["generator"]]()
        with interruptible(), ExitStack() as stack:
            RUNS_DIR.mkdir(parents=True, exist_ok=True)
            here = server(log=RUNS_DIR / "server.log", kind=options["server"])
            address = host or stack.enter_context(here)
            for scenario in scenarios:
                self.stdout.write(f"\n{scenario.title()}")
                self.stdout.flush()
                try:
                    result = _compare(scenario, options, host=address, here=host is None)
                except InventoryError as error:
                    raise CommandError(str(error)) from error
                self._print(result)
                results.append(result)
        environment = describe(server_started_here=host is None)
        if options["json"]:
            _write(options["json"], _json(results, environment))
        if options["markdown"]:
            _write(options["markdown"], _markdown(results, environment))
        if not all(result.clean() for result in results):
            raise SystemExit(1)
        if any("unguarded" in r.rounds and not r.control_oversold() for r in results):
            raise SystemExit(1)

    def _print(self, result: ScenarioResult) -> None:
        self.stdout.write(tables.terminal(result.rows()))
        for note in result.notes():
            self.stdout.write(f"  {note}")
        self.stdout.flush()


def _compare(
    scenario: Scenario, options: dict[str, Any], *, host: str, here: bool
) -> ScenarioResult:
    """Compare under one load, kept as one comparison; wrk's visitors serve all of them."""
    names, rounds = options["strategies"] or list(STRATEGIES), options["rounds"]
    comparison = begin_now(
        scenario, strategies=names, rounds=rounds, generator=options["generator"]
    )
    with kept(comparison) as heart:
        return compare(
            scenario,
            names=names,
            rounds=rounds,
            host=host,
            server_started_here=here,
            announce=heart.beside(tables.ProgressBar),
            generator=options["playing"],
            comparison=comparison,
        )


def _scenarios(options: dict[str, Any]) -> list[Scenario]:
    if options["rounds"] < 1:
        raise CommandError("--rounds must be at least 1.")
    if options["demo"]:
        return [
            Scenario(units=100, buyers=1000, within_s=10),
            Scenario(units=1000, buyers=1000, concurrency=100),
        ]
    asked = [options[name] for name in ("buyers", "units", "concurrency", "within")]
    if not any(asked):
        return ORIGINAL_EXPERIMENT
    buyers = options["buyers"] or 1000
    units = options["units"] or buyers
    if options["within"]:
        return [Scenario(units=units, buyers=buyers, within_s=options["within"])]
    return [
        Scenario(units=units, buyers=buyers, concurrency=concurrency)
        for concurrency in options["concurrency"] or [100]
    ]


def _json(results: list[ScenarioResult], environment: dict[str, object]) -> str:
    body = {
        "at": timezone.now().isoformat(timespec="seconds"),
        "environment": environment,
        "scenarios": [result.as_json() for result in results],
    }
    return json.dumps(body, indent=2)


def _markdown(results: list[ScenarioResult], environment: dict[str, object]) -> str:
    lines = ["# Comparison of strategies", ""]
    lines.append(
        f"{timezone.now():%-d %B %Y}, commit {environment['commit']}, {environment['database']},"
        f" {environment['machine']}, {serving(environment, results[0].scenario.server)}, load by"
        f" {generator_of(results)}."
        " Medians over the rounds, lowest and highest in brackets."
    )
    for result in results:
        lines += ["", f"## {result.scenario.title()}", "", tables.markdown(result.rows()), ""]
        lines += [f"- {note}" for note in result.notes()]
    settings = environment["database_settings"]
    lines += ["", "## Database settings", ""]
    if isinstance(settings, dict):
        lines += [f"- `{name}` = {value}" for name, value in sorted(settings.items())]
    return "\n".join(lines)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
