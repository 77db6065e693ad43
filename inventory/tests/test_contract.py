"""The purchase contract, for every strategy."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from conftest import Buy, MakeProduct, settled
from inventory import strategies
from inventory.audit import audit, read_books
from inventory.errors import KeyReused, LimitReached, SoldOut
from inventory.ledger import Receipt
from inventory.models import Movement, Order, Product, Stock
from inventory.purchases import apurchase, purchase
from inventory.tests.races import run

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=["purchase", "apurchase"])
def buy(request: pytest.FixtureRequest) -> Buy:
    """Buy with defaults, both ways; each asynchronous purchase in an event loop of its own."""

    def buy_one(
        product: Product,
        *,
        quantity: int = 1,
        buyer: str | None = None,
        key: uuid.UUID | None = None,
    ) -> Receipt:
        wish: dict[str, Any] = {
            "slug": product.slug,
            "quantity": quantity,
            "buyer": buyer or f"guest:{uuid.uuid4().hex}",
            "key": key or uuid.uuid4(),
        }
        asked = purchase(**wish) if request.param == "purchase" else run(apurchase(**wish))
        return settled(product, asked, wish["buyer"])

    return buy_one


def stock_of(product_id: int) -> tuple[int, int]:
    return Stock.objects.values_list("available", "version").get(product_id=product_id)


def test_sells_a_unit_and_keeps_all_three_books(
    strategy: str, make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product(units=10, strategy=strategy)

    receipt = buy(product, quantity=3, buyer="guest:ada")

    order = Order.objects.get()
    sale = Movement.objects.get(kind=Movement.Kind.SALE)
    assert stock_of(product.pk) == (7, 2)
    assert (receipt.order, receipt.available, receipt.stock_version) == (order.reference, 7, 2)
    assert not receipt.replayed
    assert (order.buyer, order.quantity, order.strategy) == ("guest:ada", 3, strategy)
    assert order.unit_price == product.price
    assert order.attempts == 1
    assert (sale.order_id, sale.delta, sale.available_after, sale.version) == (
        order.reference,
        -3,
        7,
        2,
    )
    assert audit(read_books(product.pk)) == []


def test_sells_the_last_unit_and_then_no_more(
    strategy: str, make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product(units=2, strategy=strategy)

    buy(product, quantity=2)

    with pytest.raises(SoldOut) as refusal:
        buy(product)
    assert refusal.value.available == 0
    assert stock_of(product.pk) == (0, 2)
    assert Order.objects.count() == 1


def test_refuses_more_than_there_is_and_writes_nothing(
    strategy: str, make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product(units=2, strategy=strategy)

    with pytest.raises(SoldOut) as refusal:
        buy(product, quantity=3)

    assert refusal.value.available == 2
    assert stock_of(product.pk) == (2, 1)
    assert not Order.objects.exists()
    assert Movement.objects.count() == 1


def test_answers_the_same_key_with_the_same_sale(
    strategy: str, make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product(units=5, strategy=strategy)
    key = uuid.uuid4()

    first = buy(product, buyer="guest:ada", key=key)
    buy(product)
    again = buy(product, buyer="guest:ada", key=key)

    assert again.replayed
    assert (again.order, again.available, again.stock_version) == (
        first.order,
        first.available,
        first.stock_version,
    )
    assert stock_of(product.pk) == (3, 3)


def test_finds_the_order_by_its_key_when_sold_out_by_then(
    strategy: str, make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product(units=1, strategy=strategy)
    key = uuid.uuid4()

    first = buy(product, buyer="guest:ada", key=key)

    assert buy(product, buyer="guest:ada", key=key).order == first.order


def test_the_same_key_of_another_buyer_is_another_purchase(
    strategy: str, make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product(units=5, strategy=strategy)
    key = uuid.uuid4()

    mine = buy(product, buyer="guest:ada", key=key)
    yours = buy(product, buyer="guest:bob", key=key)

    assert mine.order != yours.order


def test_refuses_a_key_that_names_another_purchase(
    strategy: str, make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product(units=5, strategy=strategy)
    key = uuid.uuid4()
    buy(product, buyer="guest:ada", key=key)

    with pytest.raises(KeyReused):
        buy(product, buyer="guest:ada", key=key, quantity=2)

    assert stock_of(product.pk) == (4, 2)


def test_a_product_without_a_stock_row_is_sold_out(
    strategy: str, make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product(units=0, strategy=strategy)
    Stock.objects.all().delete()

    with pytest.raises(SoldOut) as refusal:
        buy(product)

    assert refusal.value.available == 0
    assert not Order.objects.exists()


def test_refuses_to_run_inside_another_transaction(
    strategy: str, make_product: MakeProduct, buy: Buy, request: pytest.FixtureRequest
) -> None:
    """A lock released before the outer commit would let the next buyer read old stock."""
    if "apurchase" in request.node.callspec.params.values():
        pytest.skip("an asynchronous sale has a connection of its own, and cannot nest")
    product = make_product(units=5, strategy=strategy)

    with (
        pytest.raises(RuntimeError, match="durable"),
        transaction.atomic(),
    ):
        buy(product)

    assert stock_of(product.pk) == (5, 1)


def test_loses_nothing_when_recording_the_sale_fails(
    strategy: str, make_product: MakeProduct, buy: Buy
) -> None:
    if strategy == "redis_counter":
        pytest.skip("the buyer is not told: see test_consumer.py")
    product = make_product(units=5, strategy=strategy)
    in_the_way = Movement.objects.create(
        product=product, version=2, kind=Movement.Kind.CORRECTION, delta=0, available_after=5
    )

    with pytest.raises(IntegrityError):
        buy(product)

    assert stock_of(product.pk) == (5, 1)
    assert not Order.objects.exists()
    in_the_way.delete()
    assert buy(product).available == 4, "and the next buyer is served"


def test_sells_a_buyer_up_to_the_limit_and_no_more(
    strategy: str, make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product(units=10, strategy=strategy, limit_per_buyer=3)
    buy(product, quantity=2, buyer="guest:ada")

    with pytest.raises(LimitReached) as refusal:
        buy(product, quantity=2, buyer="guest:ada")

    assert refusal.value.limit == 3
    assert stock_of(product.pk) == (8, 2)
    assert Order.objects.count() == 1
    assert buy(product, buyer="guest:ada").available == 7, "one more is within the limit"
    assert buy(product, quantity=3, buyer="guest:bob").available == 4
    assert audit(read_books(product.pk)) == []


def test_counts_only_the_same_product_against_the_limit(
    strategy: str, make_product: MakeProduct, buy: Buy
) -> None:
    lamp = make_product("lamp", strategy=strategy, limit_per_buyer=1)
    vase = make_product("vase", strategy=strategy, limit_per_buyer=1)

    buy(lamp, buyer="guest:ada")

    assert buy(vase, buyer="guest:ada").available == 9


def test_finds_the_order_by_its_key_when_the_limit_is_reached_by_then(
    strategy: str, make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product(strategy=strategy, limit_per_buyer=1)
    key = uuid.uuid4()

    first = buy(product, buyer="guest:ada", key=key)

    again = buy(product, buyer="guest:ada", key=key)
    assert (again.order, again.replayed) == (first.order, True)


def test_says_sold_out_rather_than_limit_reached_when_both_hold(
    strategy: str, make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product(units=1, strategy=strategy, limit_per_buyer=1)
    buy(product, buyer="guest:ada")

    with pytest.raises(SoldOut):
        buy(product, buyer="guest:ada")


def test_the_registry_lists_strategies_in_learning_order() -> None:
    assert list(strategies.STRATEGIES) == [
        "optimistic",
        "pessimistic",
        "redis_lock",
        "conditional_update",
        "stored_procedure",
        "group_commit",
        "redis_counter",
        "unguarded",
    ]
