"""
One run: reset, snapshot, load over HTTP, the clients' record, the audit, the row kept.

Nothing in the result is derived from the result: the snapshot is stored before
the load, and the clients write down for themselves what they were told.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection
from django.utils import timezone

from inventory import ledger, strategies
from inventory.audit import Snapshot, read_books
from inventory.models import Product, Stock
from inventory.purchases import TERMS_CACHE_S
from loadtests import outcomes
from loadtests.environment import database_name, describe
from loadtests.figures import figures
from loadtests.models import LoadRun
from loadtests.processes import child, locust_arguments
from loadtests.records import ClientRecord, read_record

LAB_SLUG = "lab"
RUNS_DIR = settings.BASE_DIR / "var" / "runs"
GENERATOR_CPU_FLAG_PERCENT = 90
SETTLE_S = 0.3
MOST_FINDINGS_KEPT = 100
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What to run: `buyers` want `units`, `concurrency` at a time or spread `within_s`."""

    strategy: str
    units: int
    buyers: int
    concurrency: int | None = None
    within_s: float | None = None
    server: str = "wsgi"
    seed: int = 1

    def users(self) -> int:
        """Locust users it takes: a buyer with a moment of its own needs one of its own."""
        return self.buyers if self.within_s else min(self.concurrency or 1, self.buyers)

    def limit_s(self) -> float:
        """The longest it may take before it is stopped."""
        return 60 + (self.within_s or 0) + 0.1 * self.buyers


def no_progress(done: int, of: int) -> None:
    """Show nothing."""


def perform(
    spec: RunSpec, *, host: str, server_started_here: bool, progress: Progress = no_progress
) -> LoadRun:
    """
    Run one load test against the shop at `host` and keep it.

    Raises StrategyUnavailable, AdjustmentRefused (a run is on), CommandError. An
    interrupted run is marked aborted, and the interrupt raised again.
    """
    strategies.usable(spec.strategy)
    product = _prepare_product(spec)
    try:
        return _perform(spec, product, host, server_started_here, progress)
    finally:
        Product.objects.filter(pk=product.pk).update(run_until=None)


def _perform(
    spec: RunSpec, product: Product, host: str, server_started_here: bool, progress: Progress
) -> LoadRun:
    stock = Stock.objects.get(product=product)
    opening = Snapshot(available=stock.available, version=stock.version)
    if opening.available != spec.units:
        raise CommandError("Somebody else moved the lab product's stock just now.")
    run = LoadRun.objects.create(
        strategy=spec.strategy,
        server=spec.server,
        database=database_name(),
        units=spec.units,
        buyers=spec.buyers,
        concurrency=spec.concurrency,
        within_s=spec.within_s,
        opening_available=opening.available,
        opening_version=opening.version,
    )
    try:
        time.sleep(TERMS_CACHE_S)
        record = _drive(spec, run, host, progress)
        _keep(run, spec, product, opening, record, server_started_here)
    except BaseException:
        LoadRun.objects.filter(pk=run.pk).update(
            status=LoadRun.Status.ABORTED, finished_at=timezone.now()
        )
        raise
    return run


def measure_ceiling(*, host: str, requests: int, concurrency: int) -> float:
    """Measure answers per second of a page that does nothing, driven the same way."""
    path = RUNS_DIR / "ceiling.jsonl"
    arguments = locust_arguments(
        host=host, users=concurrency, record=path, buyers=requests, ceiling=True
    )
    _generate(arguments, path, requests, 60 + 0.1 * requests, no_progress)
    attempts = read_record(path).attempts
    if len(attempts) != requests or any(attempt.outcome != "idle" for attempt in attempts):
        raise CommandError(f"The ceiling was not measured: {len(attempts)} of {requests} answers.")
    begun = min(attempt.started_at for attempt in attempts)
    return requests / (max(attempt.ended_at for attempt in attempts) - begun)


def _prepare_product(spec: RunSpec) -> Product:
    """Claim the lab product for this run, with its units and strategy."""
    product, _ = Product.objects.get_or_create(
        slug=LAB_SLUG, defaults={"name": "Lab unit", "price": Decimal(1), "is_lab": True}
    )
    if not product.is_lab:
        raise CommandError(f"“{LAB_SLUG}” is not a lab product: it will not be run against.")
    ledger.open_stock(product_id=product.pk)
    ledger.reset(slugs=[LAB_SLUG], units=spec.units, reason=f"run of {spec.strategy}", actor="lab")
    until = timezone.now() + timedelta(seconds=spec.limit_s() + 30)
    if not ledger.hold_for_run(product_id=product.pk, until=until):
        raise CommandError("Another run has just begun on the lab product.")
    LoadRun.objects.filter(status=LoadRun.Status.RUNNING).update(  # whoever ran them was killed
        status=LoadRun.Status.ABORTED, finished_at=timezone.now()
    )
    Product.objects.filter(pk=product.pk).update(
        strategy=spec.strategy, opens_at=None, closes_at=None
    )
    return product


def _drive(spec: RunSpec, run: LoadRun, host: str, progress: Progress) -> ClientRecord:
    path = RUNS_DIR / f"{run.pk}.jsonl"
    arguments = locust_arguments(
        host=host,
        users=spec.users(),
        record=path,
        product=LAB_SLUG,
        buyers=spec.buyers,
        within=spec.within_s or 0,
        seed=spec.seed,
    )
    connection.close()
    _generate(arguments, path, spec.buyers, spec.limit_s(), progress)
    time.sleep(SETTLE_S)
    return read_record(path)


def _generate(
    arguments: list[str], record: Path, buyers: int, limit_s: float, progress: Progress
) -> None:
    RUNS_DIR.mkdir(parents=True, exist_ok=True)
    record.unlink(missing_ok=True)
    deadline = time.monotonic() + limit_s
    with child(arguments, log=record.with_suffix(".locust.log")) as locust:
        while locust.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
            progress(record.read_bytes().count(b"\n") if record.exists() else 0, buyers)


def _keep(
    run: LoadRun,
    spec: RunSpec,
    product: Product,
    opening: Snapshot,
    record: ClientRecord,
    server_started_here: bool,
) -> None:
    books = read_books(product.pk, since=opening)
    findings = outcomes.judge(
        books=books, attempts=record.attempts, buyers=spec.buyers, strategy=spec.strategy
    )
    seen = figures(books=books, attempts=record.attempts)
    if findings:
        seen["sales_per_s"] = seen["duration_s"] = None
    cpu_percent = record.generator_cpu_percent
    run.result = {
        "strategy": spec.strategy,
        "server": spec.server,
        "database": run.database,
        "buyers": spec.buyers,
        "concurrency": spec.concurrency,
        "within_s": spec.within_s,
        "units": spec.units,
        **seen,
        "audit": {
            "ok": not findings,
            "total": len(findings),
            "findings": [asdict(finding) for finding in findings[:MOST_FINDINGS_KEPT]],
        },
        "generator_cpu_percent": cpu_percent,
        "generator_saturated": cpu_percent is None or cpu_percent > GENERATOR_CPU_FLAG_PERCENT,
        "environment": describe(server_started_here=server_started_here),
    }
    run.status = LoadRun.Status.FAILED if findings else LoadRun.Status.PASSED
    run.sold = len(books.orders)
    run.oversold = books.oversold()
    run.sales_per_s = run.result["sales_per_s"]
    run.finished_at = timezone.now()
    run.save()
