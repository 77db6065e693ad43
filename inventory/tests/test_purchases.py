"""The queue before the row."""

from __future__ import annotations

import uuid

import pytest

from conftest import Buy, MakeProduct
from inventory import purchases
from inventory.audit import audit, read_books
from inventory.errors import StockBusy
from inventory.models import Order
from inventory.strategies import STRATEGIES
from inventory.strategies.pessimistic import Pessimistic
from inventory.tests.races import Crowd
from inventory.turnstile import Turnstile

pytestmark = pytest.mark.django_db(transaction=True)


def test_one_buyer_of_a_process_at_a_time_comes_to_the_row(
    make_product: MakeProduct, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(units=50, strategy="pessimistic")
    inside: list[int] = []
    most: list[int] = []
    sell_once = Pessimistic.sell_once

    def counted(self: Pessimistic, *args: object) -> object:
        inside.append(1)
        most.append(len(inside))
        try:
            return sell_once(self, *args)  # type: ignore[arg-type]  # passed through
        finally:
            inside.pop()

    monkeypatch.setattr(Pessimistic, "sell_once", counted)
    with Crowd(10) as crowd:
        outcomes = crowd.race(lambda n: buy(product))

    assert outcomes == {"sold": 10}
    assert set(most) == {1}


@pytest.mark.parametrize("longest_queue", [0, 50])
def test_is_busy_when_the_queue_is_full_or_the_wait_too_long(
    make_product: MakeProduct, buy: Buy, monkeypatch: pytest.MonkeyPatch, longest_queue: int
) -> None:
    product = make_product(units=5)
    turnstile = Turnstile(longest_queue=longest_queue)
    monkeypatch.setattr(purchases, "_turnstile", turnstile)
    monkeypatch.setattr(purchases, "QUEUE_WAIT_S", 0.05)
    turnstile.enter(product.pk, deadline=0)

    with pytest.raises(StockBusy):
        buy(product)

    turnstile.leave(product.pk)
    assert not Order.objects.exists()
    assert buy(product).available == 4, "nobody was left standing in the turnstile"


def test_another_product_does_not_wait(
    make_product: MakeProduct, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    lamp, kettle = make_product("lamp"), make_product("kettle")
    turnstile = Turnstile(longest_queue=0)
    monkeypatch.setattr(purchases, "_turnstile", turnstile)
    turnstile.enter(lamp.pk, deadline=0)

    assert buy(kettle).available == 9


def test_a_failed_sale_gives_its_turn_up(
    make_product: MakeProduct, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(units=5)
    turnstile = Turnstile(longest_queue=0)
    monkeypatch.setattr(purchases, "_turnstile", turnstile)

    with monkeypatch.context() as broken:
        broken.setattr(
            STRATEGIES["conditional_update"], "sell", lambda request: 1 / 0, raising=False
        )
        with pytest.raises(ZeroDivisionError):
            buy(product)

    assert buy(product).available == 4


def test_a_replay_finds_its_order_even_when_the_row_is_busy(
    make_product: MakeProduct, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """“Nothing was sold” would be a lie to whoever asks again after a lost answer."""
    product = make_product(units=5)
    key = uuid.uuid4()
    first = buy(product, buyer="guest:ada", key=key)
    turnstile = Turnstile(longest_queue=0)
    monkeypatch.setattr(purchases, "_turnstile", turnstile)
    turnstile.enter(product.pk, deadline=0)

    assert buy(product, buyer="guest:ada", key=key).order == first.order


def test_two_buyers_may_use_one_key_and_the_audit_stays_clean(
    make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product(units=5)
    key = uuid.uuid4()

    buy(product, buyer="guest:ada", key=key)
    buy(product, buyer="guest:bob", key=key)

    assert audit(read_books(product.pk)) == []
