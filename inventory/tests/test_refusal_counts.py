"""Refusals are counted, once each, by reason; and never at a buyer's expense."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django_redis import get_redis_connection
from pytest_django import Settings

from conftest import Buy, MakeProduct
from inventory import purchases, refusal_counts, threads
from inventory.errors import (
    InventoryError,
    LimitReached,
    NotOpen,
    OutcomeUnknown,
    SoldOut,
    StockBusy,
)
from inventory.models import Product
from inventory.purchases import apurchase, purchase
from inventory.refusal_counts import Tally, counted, per_minute
from inventory.strategies import STRATEGIES
from inventory.tests.races import run
from inventory.tests.servers import OwnRedis

pytestmark = [pytest.mark.redis, pytest.mark.django_db(transaction=True)]
WAIT_S = 10
START = Tally._start
"""What starts the thread, which tests have not unless they say so: see conftest.py."""


@pytest.fixture
def tally() -> Tally:
    """This process's tally, whose notes are added to Redis when the test says so."""
    return refusal_counts._tally


def refused_by(product: Product, tally: Tally) -> dict[str, int]:
    tally.add_up()
    return per_minute([product.pk])[product.pk]


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SoldOut(available=0), "sold_out"),
        (LimitReached(limit=1), "limit_reached"),
        (NotOpen(), "not_open"),
        (StockBusy(), "busy"),
        (OutcomeUnknown(), "outcome_unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("kind", ["purchase", "apurchase"])
def test_each_refusal_is_counted_once_under_its_reason(
    kind: str,
    error: InventoryError,
    reason: str,
    make_product: MakeProduct,
    tally: Tally,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    product = make_product()

    def refuse(*_args: object) -> None:
        raise error

    async def arefuse(*_args: object) -> None:
        raise error

    monkeypatch.setattr(purchases, "_sell", refuse)
    monkeypatch.setattr(purchases, "_asell", arefuse)

    for _ in range(3):
        with pytest.raises(type(error)):
            buy_somehow(kind, product)

    assert refused_by(product, tally) == {reason: 3}


@pytest.mark.parametrize("kind", ["purchase", "apurchase"])
def test_what_runs_in_a_thread_for_the_event_loop_is_counted_once(
    kind: str, make_product: MakeProduct, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(units=0, strategy="pessimistic")
    monkeypatch.setattr(type(STRATEGIES["pessimistic"]), "has_asell", False)  # as on SQLite

    with pytest.raises(SoldOut):
        buy_somehow(kind, product)

    assert refused_by(product, tally) == {"sold_out": 1}


def test_a_buyer_for_whom_no_thread_was_free_is_counted(
    make_product: MakeProduct, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(strategy="redis_lock")
    monkeypatch.setattr(type(STRATEGIES["redis_lock"]), "has_asell", False)
    purchase(slug=product.slug, quantity=1, buyer="guest:1", key=uuid.uuid4())  # terms are known

    async def no_thread(*_args: object, **_options: object) -> None:
        raise threads.NoThreadFree

    monkeypatch.setattr(purchases, "in_thread", no_thread)
    monkeypatch.setattr(purchases, "afind_receipt", nothing_found)

    with pytest.raises(StockBusy):
        buy_somehow("apurchase", product)

    assert refused_by(product, tally) == {"busy": 1}


async def nothing_found(_request: object) -> None:
    return None


def buy_somehow(kind: str, product: Product) -> None:
    wish: dict[str, Any] = {
        "quantity": 1,
        "buyer": f"guest:{uuid.uuid4().hex}",
        "key": uuid.uuid4(),
    }
    if kind == "purchase":
        purchase(slug=product.slug, **wish)
    else:
        run(apurchase(slug=product.slug, **wish))


def test_a_sale_and_its_repetition_after_the_last_unit_are_no_refusals(
    make_product: MakeProduct, buy: Buy, tally: Tally
) -> None:
    product = make_product(units=1)
    key = uuid.uuid4()
    buy(product, buyer="guest:1", key=key)
    buy(product, buyer="guest:1", key=key)

    assert refused_by(product, tally) == {}


def test_refusals_older_than_a_minute_are_left_out_and_their_keys_end(
    make_product: MakeProduct, tally: Tally
) -> None:
    product = make_product()
    redis = get_redis_connection("locks")
    now_s = int(redis.time()[0])
    for age_s, times in ((61, 5), (90, 7)):
        minute, second = divmod(now_s - age_s, 60)
        redis.hset(f"refusals:{{{product.pk}}}:{minute}", f"sold_out:{second}", times)

    tally.note(product.pk, "sold_out")

    assert refused_by(product, tally) == {"sold_out": 1}
    [key] = [
        key
        for key in redis.scan_iter(f"refusals:{{{product.pk}}}:*")
        if 0 < redis.ttl(key) <= refusal_counts.KEPT_S
    ]
    assert key


def test_a_thread_adds_up_what_gathered_and_the_buyer_asks_redis_nothing(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real tally, real thread; the buyer's own thread never comes to Redis."""
    product = make_product()
    monkeypatch.setattr(refusal_counts, "GATHER_S", 0.05)
    monkeypatch.setattr(Tally, "_start", START)
    asked_by: set[str] = set()
    add = refusal_counts._add

    def watched(found: Counter[tuple[int, str]]) -> None:
        asked_by.add(threading.current_thread().name)
        add(found)

    monkeypatch.setattr(refusal_counts, "_add", watched)

    for _ in range(500):
        with pytest.raises(StockBusy), counted(product.pk):
            raise StockBusy

    until(lambda: per_minute([product.pk])[product.pk] == {"busy": 500})
    assert asked_by == {"refusal-counts"}


def test_a_lost_redis_costs_one_warning_and_no_buyer_anything(
    make_product: MakeProduct,
    tally: Tally,
    own_redis: OwnRedis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    product = make_product(units=0)
    own_redis.kill()

    for _ in range(3):
        with pytest.raises(SoldOut):
            buy_somehow("purchase", product)
        tally.add_up()

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    own_redis.start()
    tally.note(product.pk, "sold_out")
    assert refused_by(product, tally) == {"sold_out": 1}


def test_without_redis_nothing_is_noted(
    make_product: MakeProduct, tally: Tally, settings: Settings
) -> None:
    product = make_product(units=0)
    settings.CACHES = {"default": settings.CACHES["default"]}

    with pytest.raises(SoldOut):
        buy_somehow("purchase", product)

    assert tally._notes.empty()


def test_a_forked_process_counts_its_own_and_not_its_parents(
    make_product: MakeProduct, tally: Tally
) -> None:
    """The parent's note, made before the fork, is added once; the child's by the child."""
    product = make_product()
    tally.note(product.pk, "busy")
    child = os.fork()
    if child == 0:
        try:
            assert refusal_counts._tally is not tally
            refusal_counts._tally._writer = threading.current_thread()
            refusal_counts._tally.note(product.pk, "sold_out")
            refusal_counts._tally.add_up()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    assert refused_by(product, tally) == {"busy": 1, "sold_out": 1}


def test_noting_takes_microseconds(tally: Tally) -> None:
    tally._writer = threading.current_thread()
    begun = time.perf_counter()
    for _ in range(1000):
        with pytest.raises(StockBusy), counted(1):
            raise StockBusy
    each_us = (time.perf_counter() - begun) * 1000

    assert each_us < 100


def test_an_event_loop_is_not_held_up_by_a_redis_that_hangs(
    make_product: MakeProduct, own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product()
    monkeypatch.setattr(refusal_counts, "GATHER_S", 0.0)
    monkeypatch.setattr(Tally, "_start", START)
    assert settings.REDIS_TIMEOUT_S > 0.1
    own_redis.hang()

    async def refused_often() -> float:
        begun = time.perf_counter()
        for _ in range(50):
            with pytest.raises(StockBusy), counted(product.pk):
                raise StockBusy
            await asyncio.sleep(0)
        return time.perf_counter() - begun

    try:
        assert asyncio.run(refused_often()) < settings.REDIS_TIMEOUT_S / 2
    finally:
        own_redis.go_on()
