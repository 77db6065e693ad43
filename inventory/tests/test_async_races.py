"""Real buyers, really at once, as tasks of event loops, on MariaDB: exact counts."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Any

import pytest

from conftest import SAFE, MakeProduct, drain
from inventory.audit import Books, audit, read_books
from inventory.ledger import PurchaseRequest, Receipt
from inventory.models import Order, Product
from inventory.purchases import apurchase
from inventory.strategies import STRATEGIES
from inventory.tests.races import Crowd, in_processes, run, tasks_race, tasks_race_in_processes
from inventory.tests.test_races import sell

pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.redis,
    pytest.mark.django_db(transaction=True),
]


async def asell(
    product: Product, *, key: uuid.UUID | None = None, quantity: int = 1, strategy: str = ""
) -> Receipt:
    """Sell past the process's turnstile, so that all tasks meet at the row itself."""
    name = strategy or product.strategy
    return await STRATEGIES[name].asell(
        PurchaseRequest(
            product_id=product.pk,
            quantity=quantity,
            buyer="guest:ada" if key else f"guest:{uuid.uuid4().hex}",
            key=key or uuid.uuid4(),
            unit_price=product.price,
            strategy=name,
            limit=product.limit_per_buyer,
        )
    )


async def buy(product: Product) -> Receipt:
    return await apurchase(
        slug=product.slug, quantity=1, buyer=f"guest:{uuid.uuid4().hex}", key=uuid.uuid4()
    )


def test_every_safe_strategy_has_a_native_form_here(strategy: str) -> None:
    assert STRATEGIES[strategy].has_asell


def drained(product: Product) -> Books:
    """The books once everything accepted is committed."""
    drain(product)
    return read_books(product.pk)


def test_sells_the_last_unit_once_to_100_buyers_in_10_rounds(
    strategy: str, make_product: MakeProduct
) -> None:
    products = [make_product(f"round-{number}", units=1, strategy=strategy) for number in range(10)]

    async def rounds() -> None:
        for product in products:
            outcomes = await tasks_race(100, lambda n, product=product: asell(product))  # type: ignore[misc]  # bound early
            assert outcomes == {"sold": 1, "SoldOut": 99}

    run(rounds())

    for product in products:
        assert audit(drained(product)) == []


def test_sells_exactly_100_units_to_1000_buyers_of_two_processes(
    strategy: str, make_product: MakeProduct
) -> None:
    product = make_product(units=100, strategy=strategy)

    outcomes = tasks_race_in_processes(2, 50, lambda n: buy(product), times=10)

    assert outcomes == {"sold": 100, "SoldOut": 900}
    assert audit(drained(product)) == []


def test_sells_every_unit_when_there_is_one_for_each_of_200_buyers(
    strategy: str, make_product: MakeProduct
) -> None:
    product = make_product(units=200, strategy=strategy)

    assert run(tasks_race(200, lambda n: buy(product))) == {"sold": 200}

    assert audit(drained(product)) == []


def test_makes_one_order_of_one_key_sent_20_times_at_once(
    strategy: str, make_product: MakeProduct
) -> None:
    product = make_product(units=50, strategy=strategy)
    key = uuid.uuid4()

    assert run(tasks_race(20, lambda n: asell(product, key=key))) == {"sold": 20}

    assert audit(drained(product)) == []
    assert Order.objects.count() == 1


def test_sells_one_buyer_no_more_than_the_limit_in_30_purchases_at_once(
    strategy: str, make_product: MakeProduct
) -> None:
    product = make_product(units=50, strategy=strategy, limit_per_buyer=2)

    outcomes = run(tasks_race(30, lambda n: asell(product, key=uuid.uuid4())))

    assert outcomes == {"sold": 2, "LimitReached": 28}
    assert audit(drained(product)) == []


def test_tasks_and_threads_and_strategies_mixed_on_one_product_stay_safe(
    make_product: MakeProduct,
) -> None:
    """Every writer obeys the same guard, so they may meet on one row."""
    product = make_product(units=150)

    def way(number: int) -> dict[str, Any]:
        return {"quantity": 1 + number % 3, "strategy": SAFE[number % len(SAFE)]}

    def races(process: int) -> Counter[str]:
        if process:
            return run(tasks_race(80, lambda n: asell(product, **way(n))))
        with Crowd(16) as crowd:
            return sum((crowd.race(lambda n: sell(product, **way(n))) for _ in range(5)), Counter())

    outcomes = in_processes(2, races)

    assert set(outcomes) <= {"sold", "SoldOut"}
    books = read_books(product.pk)
    assert audit(books) == []
    assert books.units_sold() == 150 - books.stock.available
