"""The Redis lock's own ways to go wrong; none may oversell or fail a committed sale."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import Counter
from typing import Any
from unittest.mock import Mock

import pytest
from django.conf import settings
from django.core.cache import caches
from django.db import connection, connections
from redis.exceptions import ConnectionError as RedisConnectionError

from conftest import Buy, MakeProduct
from inventory.audit import audit, read_books
from inventory.errors import SoldOut, StockBusy
from inventory.ledger import PurchaseRequest
from inventory.models import Order, Product
from inventory.strategies import STRATEGIES, redis_lock
from inventory.strategies.redis_lock import RedisLock
from inventory.tests.races import Crowd
from inventory.tests.servers import OwnRedis

pytestmark = [pytest.mark.redis, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def product(make_product: MakeProduct) -> Product:
    return make_product(f"lamp-{uuid.uuid4().hex[:8]}", units=5, strategy="redis_lock")


def key_of(product: Product) -> str:
    return f"stock:{{{product.pk}}}"


def lock_is_held(product: Product) -> bool:
    locks = caches["locks"]
    return bool(locks.client.get_client().exists(locks.make_key(key_of(product))))


def foreign_lock(product: Product, **options: Any) -> Any:
    return caches["locks"].lock(key_of(product), **options)


def test_releases_the_lock_after_the_commit(
    product: Product, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    commit = type(connections["default"])._commit

    def watched(self: Any) -> None:
        commit(self)
        seen.append(bool(lock_is_held(product)))

    monkeypatch.setattr(type(connections["default"]), "_commit", watched)

    buy(product)

    assert seen[-1] is True, "still held when the commit has just been made"
    assert not lock_is_held(product)


@pytest.mark.parametrize("quantity", [6, 100])
def test_releases_the_lock_after_a_refusal(product: Product, buy: Buy, quantity: int) -> None:
    with pytest.raises(SoldOut):
        buy(product, quantity=quantity)
    assert not lock_is_held(product)


def test_is_busy_when_another_holds_the_lock_too_long(
    product: Product, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_lock, "LOCK_WAIT_S", 0.2)
    lock = foreign_lock(product, timeout=30)
    lock.acquire()

    with pytest.raises(StockBusy):
        buy(product)

    lock.release()
    assert not Order.objects.exists()
    assert buy(product).available == 4, "and the turnstile was not left shut"


def test_outlives_a_crashed_holder(product: Product, buy: Buy) -> None:
    """Whoever crashed holding it never releases it; its TTL does."""
    foreign_lock(product, timeout=0.5).acquire()

    assert buy(product).available == 4


def test_a_lock_lost_to_its_ttl_neither_oversells_nor_fails_the_sale(
    make_product: MakeProduct,
    buy: Buy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A holder pauses past its TTL between reading and writing; another sells the last unit."""
    product = make_product("last-lamp", units=2, strategy="redis_lock")
    monkeypatch.setattr(redis_lock, "LOCK_TTL_S", 0.1)
    rival = RedisLock()  # as another process has: a turnstile and leases of its own
    read = redis_lock.read_stock
    paused: list[bool] = []

    def read_and_pause(product_id: int) -> Any:
        stock = read(product_id)
        if not paused:
            paused.append(True)
            deadline = time.monotonic() + 5
            while lock_is_held(product) and time.monotonic() < deadline:
                time.sleep(0.01)
            thread = threading.Thread(target=buy_from_the_rival)
            thread.start()
            thread.join(10)
        return stock

    def buy_from_the_rival() -> None:
        rival.sell(
            PurchaseRequest(
                product_id=product.pk,
                quantity=1,
                buyer="guest:rival",
                key=uuid.uuid4(),
                unit_price=product.price,
                strategy="redis_lock",
            )
        )
        connection.close()

    monkeypatch.setattr(redis_lock, "read_stock", read_and_pause)

    with caplog.at_level(logging.WARNING):
        receipt = buy(product, buyer="guest:slow")

    assert receipt.available == 0
    assert Order.objects.get(buyer="guest:slow").attempts == 2, "the guard caught it once"
    assert "outlived its TTL" in caplog.text
    books = read_books(product.pk)
    assert (books.units_sold(), audit(books)) == (2, [])


def test_is_busy_when_redis_cannot_be_reached(
    product: Product, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> bool:
        raise RedisConnectionError("refused")

    monkeypatch.setattr("redis.lock.Lock.acquire", refuse)

    with pytest.raises(StockBusy):
        buy(product)

    assert not Order.objects.exists()


def test_asks_a_silent_redis_once_for_all_who_queue(
    product: Product, own_redis: OwnRedis, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would wait out the timeout in its turn otherwise, and hold a thread all the while."""
    strategy = RedisLock()
    monkeypatch.setitem(STRATEGIES, "redis_lock", strategy)
    buy(product)
    own_redis.hang()
    began_at = time.monotonic()
    for _ in range(20):
        with pytest.raises(StockBusy):
            buy(product)
    assert time.monotonic() - began_at < 20 * settings.REDIS_TIMEOUT_S / 4
    own_redis.go_on()
    strategy._silent_until = time.monotonic()
    buy(product)
    assert Order.objects.count() == 2


def test_a_redis_lost_at_the_release_does_not_fail_the_sale(
    product: Product, buy: Buy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise RedisConnectionError("refused")

    monkeypatch.setattr("redis.lock.Lock.release", refuse)

    assert buy(product).available == 4
    assert "left to its TTL" in caplog.text


def test_one_thread_per_process_competes_for_the_lock(
    make_product: MakeProduct, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 buyers at once take the Redis lock far fewer than 16 times."""
    product = make_product("busy-lamp", units=64, strategy="redis_lock")
    taken = []
    take = RedisLock._take

    def counted(self: RedisLock, *args: Any) -> Any:
        taken.append(True)
        return take(self, *args)

    monkeypatch.setattr(RedisLock, "_take", counted)
    monkeypatch.setattr(redis_lock, "LEASE_S", 60)
    with Crowd(16) as crowd:
        outcomes: Counter[str] = Counter()
        for _ in range(4):
            outcomes += crowd.race(lambda n: buy(product))

    assert outcomes["sold"] == 64
    assert len(taken) < 40
    assert not lock_is_held(product)


def test_a_lease_ends_after_its_sales_so_that_other_processes_get_their_turn() -> None:
    lease = redis_lock._Lease(lock=Mock(), taken_at=time.monotonic())
    assert lease.may_be_handed_on()
    lease.sales = redis_lock.LEASE_SALES
    assert not lease.may_be_handed_on()
    old = redis_lock._Lease(lock=Mock(), taken_at=time.monotonic() - redis_lock.LEASE_S)
    assert not old.may_be_handed_on()
