"""
One run: reset, snapshot, load over HTTP, the clients' record, the audit, the row kept.

Nothing in the result is derived from the result: the snapshot is stored before
the load, and the clients write down for themselves what they were told.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection
from django.utils import timezone

from inventory import adjustments, strategies
from inventory.audit import Snapshot, read_books
from inventory.models import Order, Product, Stock
from inventory.terms import TERMS_CACHE_S
from loadtests import costs, outcomes
from loadtests.drains import DRAIN_WITHIN_S, drain_figures, wait_until_drained
from loadtests.environment import database_name
from loadtests.generators import Generator, Load, Locust
from loadtests.generators.base import Progress, no_progress
from loadtests.models import Comparison, LoadRun, longest_s
from loadtests.records import ACCEPTED, ClientRecord
from loadtests.results import Observed, result_of

LAB_SLUG = "lab"
RUNS_DIR = settings.BASE_DIR / "var" / "runs"
SETTLE_S = 0.3
LOCUST = Locust()


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
        """How many may be buying at once: a buyer with a moment of its own waits for nobody."""
        return self.buyers if self.within_s else min(self.concurrency or 1, self.buyers)

    def limit_s(self) -> float:
        """The longest the load may take before it is stopped."""
        return longest_s(buyers=self.buyers, within_s=self.within_s)

    def load(self, run: LoadRun, host: str) -> Load:
        """The load of this run, for a generator."""
        return Load(
            host=host,
            product=LAB_SLUG,
            buyers=self.buyers,
            users=self.users(),
            within_s=self.within_s,
            seed=self.seed,
            record=RUNS_DIR / f"{run.pk}.jsonl",
            limit_s=self.limit_s(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where a run takes place, and who buys."""

    host: str
    server_started_here: bool
    generator: Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Where in a comparison a run belongs; in none, when it was made by itself."""

    comparison: Comparison | None = None
    round: int = 1
    ceiling_per_s: float | None = None


ALONE = Turn()


def perform(
    spec: RunSpec,
    *,
    host: str,
    server_started_here: bool,
    generator: Generator = LOCUST,
    progress: Progress = no_progress,
    turn: Turn = ALONE,
) -> LoadRun:
    """
    Run one load test against the shop at `host` and keep it.

    Raises StrategyUnavailable, AdjustmentRefused (a run is on), CommandError. An
    interrupted run is marked aborted, and the interrupt raised again.
    """
    strategies.usable(spec.strategy)
    setting = Setting(host=host, server_started_here=server_started_here, generator=generator)
    product = _prepare_product(spec)
    try:
        run = _begin(spec, product, turn)
        _perform(spec, run, product, setting, progress)
        return run
    finally:
        Product.objects.filter(pk=product.pk).update(run_until=None)


def measure_ceiling(*, host: str, concurrency: int, generator: Generator = LOCUST) -> float:
    """Measure answers per second of a page that does nothing, driven the same way."""
    RUNS_DIR.mkdir(parents=True, exist_ok=True)
    return generator.ceiling_per_s(host=host, concurrency=concurrency, directory=RUNS_DIR)


def _begin(spec: RunSpec, product: Product, turn: Turn) -> LoadRun:
    """Keep the run with its snapshot, before the load."""
    stock = Stock.objects.get(product=product)
    opening = Snapshot(available=stock.available, version=stock.version, taken_at=timezone.now())
    if opening.available != spec.units:
        raise CommandError("Somebody else moved the lab product's stock just now.")
    return LoadRun.objects.create(
        comparison=turn.comparison,
        round=turn.round,
        ceiling_per_s=turn.ceiling_per_s,
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


def _perform(
    spec: RunSpec, run: LoadRun, product: Product, setting: Setting, progress: Progress
) -> None:
    try:
        _keep(run, _observe(spec, run, product, setting, progress))
    except BaseException:
        LoadRun.objects.filter(pk=run.pk).update(
            status=LoadRun.Status.ABORTED, finished_at=timezone.now()
        )
        raise


def _prepare_product(spec: RunSpec) -> Product:
    """Claim the lab product for this run, with its units and strategy."""
    product, _ = Product.objects.get_or_create(
        slug=LAB_SLUG, defaults={"name": "Lab unit", "price": Decimal(1), "is_lab": True}
    )
    if not product.is_lab:
        raise CommandError(f"“{LAB_SLUG}” is not a lab product: it will not be run against.")
    adjustments.open_stock(product_id=product.pk)
    adjustments.reset(
        slugs=[LAB_SLUG], units=spec.units, reason=f"run of {spec.strategy}", actor="lab"
    )
    until = timezone.now() + timedelta(seconds=spec.limit_s() + DRAIN_WITHIN_S + 30)
    if not adjustments.hold_for_run(product_id=product.pk, until=until):
        raise CommandError("Another run has just begun on the lab product.")
    LoadRun.objects.filter(status=LoadRun.Status.RUNNING).update(  # whoever ran them was killed
        status=LoadRun.Status.ABORTED, finished_at=timezone.now()
    )
    Product.objects.filter(pk=product.pk).update(
        strategy=spec.strategy, opens_at=None, closes_at=None
    )
    return product


def _observe(
    spec: RunSpec, run: LoadRun, product: Product, setting: Setting, progress: Progress
) -> Observed:
    """Let the buyers in, wait until all is written, and read every book."""
    load = spec.load(run, setting.host)
    RUNS_DIR.mkdir(parents=True, exist_ok=True)
    setting.generator.prepare(load)
    time.sleep(TERMS_CACHE_S)
    counters, meter = costs.innodb_counters(), costs.Meter(setting.host)
    connection.close()
    record = setting.generator.buy(load, progress)
    drain = _drain(run, product, record)
    innodb = costs.differences(counters, costs.innodb_counters())
    time.sleep(SETTLE_S)
    opening = Snapshot(
        available=run.opening_available,
        version=run.opening_version,
        taken_at=run.started_at,
    )
    books = read_books(product.pk, since=opening)
    only_purchases = setting.generator.opens_pages_beforehand
    here = setting.server_started_here
    return Observed(
        books=books,
        record=record,
        findings=outcomes.judge(
            books=books, attempts=record.attempts, buyers=spec.buyers, strategy=spec.strategy
        ),
        generator=setting.generator.name,
        drain=drain,
        cost=meter.cost(sales=len(books.orders), purchases_only=only_purchases) if here else {},
        innodb=innodb,
        server_started_here=here,
    )


def _drain(run: LoadRun, product: Product, record: ClientRecord) -> dict[str, object]:
    """Wait for what was accepted; no figures where nothing was, or where it took too long."""
    accepted = [a.ended_at for a in record.attempts if a.outcome == ACCEPTED]
    strategy = strategies.STRATEGIES[run.strategy]
    if not accepted or not wait_until_drained(lambda: strategy.pending(product.pk)):
        return {"drain_s": None, "drained_per_s": None}
    orders = Order.objects.filter(product=product, created_at__gte=run.started_at)
    offset_s = time.time() - time.monotonic()
    written_at = (at.timestamp() - offset_s for at in orders.values_list("created_at", flat=True))
    return drain_figures(written_at, last_accepted_at=max(accepted))


def _keep(run: LoadRun, observed: Observed) -> None:
    run.result = result_of(run, observed)
    run.status = LoadRun.Status.FAILED if observed.findings else LoadRun.Status.PASSED
    run.sold = len(observed.books.orders)
    run.oversold = observed.books.oversold()
    run.sales_per_s = run.result["sales_per_s"]
    run.finished_at = timezone.now()
    run.save()
