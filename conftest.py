"""What every test may use; which database they run on is the environment's choice."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django_redis import get_redis_connection
from pytest_django import Settings

from inventory import adjustments, counter, purchases, refusal_counts, terms
from inventory.consumer import Consumer
from inventory.ledger import ACCEPTED, Receipt
from inventory.models import Movement, Product
from inventory.purchases import purchase
from inventory.strategies import STRATEGIES
from inventory.tests.servers import OwnRedis, redis_program
from inventory.tickets import redeem
from shop import live_stock, rate_limits, units_left, waiting_room

os.environ["RATE_LIMITS"] = "0"  # for the servers that tests start

MakeProduct = Callable[..., Product]
Buy = Callable[..., Receipt]
StartRedis = Callable[..., OwnRedis]


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Keep SQLite's test database in a file: threads and servers share it."""
    if connection.vendor == "sqlite":
        path = str(settings.BASE_DIR / "var" / f"test-{os.getpid()}.sqlite3")
        settings.DATABASES["default"]["TEST"]["NAME"] = path


@pytest.fixture(autouse=True)
def _fresh_memory() -> None:
    """Forget the sale terms and the live stock of the test before."""
    terms.forget()
    purchases._sold_out.forget()
    live_stock.forget()
    units_left.forget()
    rate_limits._breaker.answered()
    waiting_room._breaker.answered()


@pytest.fixture(autouse=True)
def _refusals_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no thread add refusals to Redis a second later, in the middle of another test."""
    monkeypatch.setattr(refusal_counts.Tally, "_start", lambda tally: None)
    monkeypatch.setattr(refusal_counts, "_tally", refusal_counts.Tally())


@pytest.fixture(autouse=True)
def _no_rate_limits(settings: Settings) -> None:
    """Let tests ask as often as they like, all from one address."""
    settings.RATE_LIMITS = {}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what cannot run here, out loud; in CI, on MariaDB, fail instead."""
    lacking = []
    if item.get_closest_marker("mariadb") and connection.vendor != "mysql":
        if os.environ.get("LASTUNIT_DB") == "mariadb":
            pytest.fail("this suite is to run on MariaDB, but DATABASE_URL names another database")
        pytest.skip("needs MariaDB or MySQL: runs in the second half of make test")
    if item.get_closest_marker("redis") and "locks" not in settings.CACHES:
        lacking.append("REDIS_URL")
    if lacking and os.environ.get("CI") == "true":
        pytest.fail(f"CI must have {', '.join(lacking)}")
    if lacking:
        pytest.skip(f"needs {', '.join(lacking)}")


@pytest.fixture
def make_product() -> MakeProduct:
    """Make products with units, at version 1 (or 0 without units)."""

    def make(slug: str = "lamp", *, units: int = 10, **fields: Any) -> Product:
        values = {"name": slug.title(), "price": Decimal("12.50"), **fields}
        product = Product.objects.create(slug=slug, **values)
        adjustments.open_stock(product_id=product.pk)
        if units:
            adjustments.adjust(
                product_id=product.pk,
                delta=units,
                kind=Movement.Kind.RESTOCK,
                reason="for the test",
                actor="test",
            )
        return product

    return make


@pytest.fixture
def buy() -> Buy:
    """Buy with defaults: one unit, a buyer and a key of its own."""

    def buy_one(
        product: Product,
        *,
        quantity: int = 1,
        buyer: str | None = None,
        key: uuid.UUID | None = None,
    ) -> Receipt:
        buyer = buyer or f"guest:{uuid.uuid4().hex}"
        key = key or uuid.uuid4()
        receipt = purchase(slug=product.slug, quantity=quantity, buyer=buyer, key=key)
        return settled(product, receipt, buyer)

    return buy_one


def settled(product: Product, receipt: Receipt, buyer: str) -> Receipt:
    """What becomes of a receipt once everything accepted is committed."""
    if receipt.status != ACCEPTED:
        return receipt
    drain(product)
    sale = redeem(slug=product.slug, reference=receipt.order, buyer=buyer)
    return replace(sale, replayed=receipt.replayed or sale.order != receipt.order)


def drain(product: Product) -> None:
    """Commit all that the Redis counter accepted of a product."""
    counter.open_queue(product.pk)
    consumer = Consumer("test")
    while consumer.commit_new(product):
        pass
    assert counter.on_their_way(product.pk) == 0


@pytest.fixture(autouse=True)
def _fresh_counters() -> None:
    """Forget counters, waiting rooms and refusals of the test before: product ids come again."""
    if "locks" in settings.CACHES:
        redis = get_redis_connection("locks")
        for pattern in ("counter:*", "queue:*", "refusals:*"):
            for key in redis.scan_iter(pattern, count=1000):
                redis.delete(key)


SAFE = [name for name in STRATEGIES if name != "unguarded"]


@pytest.fixture(params=SAFE)
def strategy(request: pytest.FixtureRequest) -> str:
    """Each strategy that keeps the promise."""
    name: str = request.param
    reason = STRATEGIES[name].unavailable_reason()
    if reason is not None:
        if STRATEGIES[name].needs_procedures:
            pytest.skip(f"{reason}: runs in the second half of make test")
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must run {name}, but {reason}")
        pytest.skip(reason)
    return name


@pytest.fixture
def committing(strategy: str) -> str:
    """Each strategy whose buyer waits for the commit."""
    if strategy == "redis_counter":
        pytest.skip("its commits are the consumer's: see test_consumer.py")
    return strategy


@pytest.fixture
def start_redis(tmp_path: Path, settings: Settings) -> Iterator[StartRedis]:
    """Start a Redis of the test's own, and let the shop use it."""
    program = redis_program()
    if program is None and os.environ.get("CI") == "true":
        pytest.fail("CI must have the program of a Redis server")
    if program is None:
        pytest.skip("needs the program of a Redis server")
    started: list[OwnRedis] = []

    def start(*options: str, database: int = 1) -> OwnRedis:
        redis = OwnRedis(program, tmp_path, *options)
        started.append(redis)
        locks = {**settings.CACHES["locks"], "LOCATION": f"{redis.address}/{database}"}
        settings.CACHES = {**settings.CACHES, "locks": locks}
        return redis

    yield start
    for redis in started:
        redis.kill()


@pytest.fixture
def own_redis(start_redis: StartRedis) -> OwnRedis:
    """A Redis that the test may wipe, hang and kill."""
    return start_redis()
