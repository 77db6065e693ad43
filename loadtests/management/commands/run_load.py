from __future__ import annotations

import json
from argparse import ArgumentParser
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from inventory.errors import InventoryError
from inventory.strategies import STRATEGIES
from loadtests import processes
from loadtests.generators import GENERATORS
from loadtests.interrupts import interruptible
from loadtests.models import LoadRun
from loadtests.runs import RUNS_DIR, RunSpec, perform
from loadtests.tables import ProgressBar, summary


class Command(BaseCommand):
    help = "Run one load test on the lab product; exit 1 when its audit fails."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--strategy", required=True, choices=list(STRATEGIES))
        parser.add_argument("--units", type=int, required=True, help="Units to sell.")
        parser.add_argument("--buyers", type=int, required=True, help="One purchase each.")
        shape = parser.add_mutually_exclusive_group(required=True)
        shape.add_argument("--concurrency", type=int, help="So many buyers at a time.")
        shape.add_argument("--within", type=float, help="Spread the buyers over these seconds.")
        parser.add_argument("--server", choices=list(processes.SERVERS), default="wsgi")
        parser.add_argument("--generator", choices=list(GENERATORS), default="locust")
        parser.add_argument("--host", help="A running shop; without it one is started here.")
        parser.add_argument("--seed", type=int, default=1, help="Of the moments of arrival.")
        parser.add_argument("--json", type=Path, help="Write every figure to this file.")

    def handle(self, *args: Any, host: str | None, json: Path | None, **options: Any) -> None:
        """Run, print, and tell the truth in the exit code."""
        spec = _spec(options)
        generator = GENERATORS[options["generator"]]()
        log = RUNS_DIR / "server.log"
        bar = ProgressBar(f"{spec.strategy}:")
        with interruptible(), ExitStack() as stack:
            RUNS_DIR.mkdir(parents=True, exist_ok=True)
            try:
                here = processes.server(log=log, kind=spec.server)
                run = perform(
                    spec,
                    host=host or stack.enter_context(here),
                    server_started_here=host is None,
                    generator=generator,
                    progress=bar,
                )
            except InventoryError as error:
                raise CommandError(str(error)) from error
            finally:
                bar.clear()
        self.stdout.write(summary(run))
        if json is not None:
            _write(json, run)
        if run.status == LoadRun.Status.FAILED:
            raise SystemExit(1)


def _spec(options: dict[str, Any]) -> RunSpec:
    for name in ("units", "buyers", "concurrency", "within"):
        if options[name] is not None and options[name] < (0 if name == "units" else 1):
            raise CommandError(
                f"--{name} must be {'0 or more' if name == 'units' else 'at least 1'}."
            )
    return RunSpec(
        strategy=options["strategy"],
        units=options["units"],
        buyers=options["buyers"],
        concurrency=options["concurrency"],
        within_s=options["within"],
        server=options["server"],
        seed=options["seed"],
    )


def _write(path: Path, run: LoadRun) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run.result, indent=2) + "\n")
