from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path

from django.core.management.base import CommandError

from loadtests.generators.base import Generator, Load, Progress, lines_in, no_progress
from loadtests.processes import child, locust_arguments
from loadtests.records import ClientRecord, read_record

CEILING_REQUESTS = 3000


class Locust(Generator):
    """
    Buyers as greenlets of Python, by the locustfile.

    Runs wherever the shop does and spreads arrivals, but takes a core at some
    500 purchases a second, which the shop then lacks.
    """

    def __init__(self, *, ceiling_requests: int = CEILING_REQUESTS) -> None:
        self.name = f"locust {version('locust')}"
        self.ceiling_requests = ceiling_requests

    def prepare(self, load: Load) -> None:
        """See Generator; its buyers come by themselves."""

    def buy(self, load: Load, progress: Progress = no_progress) -> ClientRecord:
        """See Generator; the buyers open their pages first, within the load."""
        arguments = locust_arguments(
            host=load.host,
            users=load.users,
            record=load.record,
            product=load.product,
            buyers=load.buyers,
            within=load.within_s or 0,
            seed=load.seed,
        )
        _run(arguments, load.record, load.buyers, load.limit_s, progress)
        return read_record(load.record)

    def ceiling_per_s(self, *, host: str, concurrency: int, directory: Path) -> float:
        """See Generator."""
        path = directory / "ceiling.jsonl"
        requests = self.ceiling_requests
        arguments = locust_arguments(
            host=host, users=concurrency, record=path, buyers=requests, ceiling=True
        )
        _run(arguments, path, requests, 60 + 0.1 * requests, no_progress)
        attempts = read_record(path).attempts
        if len(attempts) != requests or any(attempt.outcome != "idle" for attempt in attempts):
            raise CommandError(
                f"The ceiling was not measured: {len(attempts)} of {requests} answers."
            )
        begun = min(attempt.started_at for attempt in attempts)
        return requests / (max(attempt.ended_at for attempt in attempts) - begun)


def _run(
    arguments: list[str], record: Path, buyers: int, limit_s: float, progress: Progress
) -> None:
    record.unlink(missing_ok=True)
    deadline = time.monotonic() + limit_s
    with child(arguments, log=record.with_suffix(".locust.log")) as locust:
        while locust.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
            progress(lines_in(record), buyers)
    progress(lines_in(record), buyers)
