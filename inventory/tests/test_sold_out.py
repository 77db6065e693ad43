"""“Sold out” repeated from memory: how long, for whom, and never over an order."""

from __future__ import annotations

import time
import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from conftest import Buy, MakeProduct
from inventory import adjustments, purchases
from inventory.errors import SoldOut
from inventory.models import Movement, Product
from inventory.sold_out import SoldOutMemory
from inventory.strategies import STRATEGIES


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("inventory.sold_out.time", clock)
    return clock


@pytest.mark.usefixtures("clock")
def test_knows_nothing_at_first() -> None:
    SoldOutMemory(for_s=0.1).check(1, 100)


def test_refuses_what_was_too_much_a_moment_ago_and_lets_the_rest_through(clock: Clock) -> None:
    memory = SoldOutMemory(for_s=0.1)
    memory.remember(1, 2, as_of=clock.now)

    with pytest.raises(SoldOut) as refusal:
        memory.check(1, 3)

    assert refusal.value.available == 2
    memory.check(1, 2)
    memory.check(2, 3)


def test_counts_from_the_moment_it_was_true_and_not_from_when_it_was_told(clock: Clock) -> None:
    memory = SoldOutMemory(for_s=0.1)
    memory.remember(1, 0, as_of=clock.now - 0.06)

    with pytest.raises(SoldOut):
        memory.check(1, 1)

    clock.now += 0.05
    memory.check(1, 1)


def restock(product: Product) -> None:
    adjustments.adjust(
        product_id=product.pk, delta=1, kind=Movement.Kind.RESTOCK, reason="", actor="test"
    )


@pytest.mark.django_db(transaction=True)
def test_a_crowd_of_losers_asks_the_row_once(
    strategy: str, make_product: MakeProduct, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purchases._sold_out, "_for_s", 60.0)
    product = make_product(units=0, strategy=strategy)
    with pytest.raises(SoldOut):
        buy(product)
    monkeypatch.setattr(
        type(STRATEGIES[strategy]), "sell", lambda *_: pytest.fail("the row was asked")
    )

    with (
        CaptureQueriesContext(
            connection,
        ) as queries,
        pytest.raises(SoldOut),
    ):
        buy(product)

    assert len(queries) == 1, "for an order that the key may have"


@pytest.mark.django_db(transaction=True)
def test_a_restock_is_on_sale_once_the_memory_fades(
    strategy: str, make_product: MakeProduct, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(units=0, strategy=strategy)
    with pytest.raises(SoldOut):
        buy(product)
    restock(product)
    clock = Clock()
    clock.now = time.monotonic() + purchases.SOLD_OUT_MEMORY_S
    monkeypatch.setattr("inventory.sold_out.time", clock)

    assert buy(product).available == 0


@pytest.mark.django_db(transaction=True)
def test_the_key_of_an_order_finds_it_though_memory_says_sold_out(
    strategy: str, make_product: MakeProduct, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purchases._sold_out, "_for_s", 60.0)
    product = make_product(units=1, strategy=strategy)
    key = uuid.uuid4()
    first = buy(product, buyer="guest:ada", key=key)
    with pytest.raises(SoldOut):
        buy(product)

    assert buy(product, buyer="guest:ada", key=key).order == first.order
