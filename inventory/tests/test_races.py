"""Real buyers, really at once, on MariaDB: exact counts, for every strategy."""

from __future__ import annotations

import threading
import uuid
from collections import Counter

import pytest
from django.db import connection

from conftest import SAFE, MakeProduct, drain
from inventory import counter
from inventory.audit import Books, audit, read_books
from inventory.consumer import Consumer
from inventory.errors import StockBusy
from inventory.ledger import PurchaseRequest, Receipt
from inventory.models import Order, Product
from inventory.strategies import STRATEGIES
from inventory.tests.races import Crowd, race_in_processes

pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.redis,
    pytest.mark.django_db(transaction=True),
]


def sell(
    product: Product, *, key: uuid.UUID | None = None, quantity: int = 1, strategy: str = ""
) -> Receipt:
    """Sell past the process's turnstile, so that all threads meet at the row itself."""
    name = strategy or product.strategy
    return STRATEGIES[name].sell(
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


def drained(product: Product) -> Books:
    """The books once everything accepted is committed."""
    drain(product)
    return read_books(product.pk)


def test_sells_the_last_unit_once_to_100_buyers_in_50_rounds(
    strategy: str, make_product: MakeProduct
) -> None:
    with Crowd(100) as crowd:
        for number in range(50):
            product = make_product(f"round-{number}", units=1, strategy=strategy)

            outcomes = crowd.race(lambda n, product=product: sell(product))  # type: ignore[misc]  # bound early

            assert outcomes == {"sold": 1, "SoldOut": 99}, f"round {number}"
            assert audit(drained(product)) == []


def test_sells_exactly_100_units_to_1000_buyers_in_processes(
    strategy: str, make_product: MakeProduct
) -> None:
    product = make_product(units=100, strategy=strategy)

    outcomes = race_in_processes(4, 25, lambda n: sell(product), times=10)

    assert outcomes == {"sold": 100, "SoldOut": 900}
    assert audit(drained(product)) == []


def test_sells_every_unit_when_there_is_one_for_each_of_200_buyers(
    strategy: str, make_product: MakeProduct
) -> None:
    product = make_product(units=200, strategy=strategy)

    outcomes = race_in_processes(2, 20, lambda n: sell(product), times=5)

    assert outcomes == {"sold": 200}
    assert audit(drained(product)) == []


def test_makes_one_order_of_one_key_sent_20_times_at_once(
    strategy: str, make_product: MakeProduct
) -> None:
    product = make_product(units=50, strategy=strategy)
    with Crowd(20) as crowd:
        for number in range(1, 6):
            key = uuid.uuid4()
            answers: list[uuid.UUID] = []

            outcomes = crowd.race(
                lambda n, key=key, answers=answers: answers.append(  # type: ignore[misc]  # bound early
                    sell(product, key=key).order
                )
            )

            assert outcomes == {"sold": 20}
            assert len(set(answers)) == 1
            drain(product)
            assert Order.objects.count() == number
    assert audit(drained(product)) == []


def test_sells_one_buyer_no_more_than_the_limit_in_30_purchases_at_once(
    strategy: str, make_product: MakeProduct
) -> None:
    with Crowd(30) as crowd:
        for number in range(5):
            product = make_product(
                f"round-{number}", units=50, strategy=strategy, limit_per_buyer=2
            )

            outcomes = crowd.race(
                lambda n, product=product: sell(product, key=uuid.uuid4())  # type: ignore[misc]  # bound early
            )

            assert outcomes == {"sold": 2, "LimitReached": 28}
            assert audit(drained(product)) == []


def test_strategies_mixed_on_one_product_stay_safe(make_product: MakeProduct) -> None:
    """Every writer obeys the same guard, so they may meet on one row."""
    product = make_product(units=150)

    def buy_in_turn(number: int) -> None:
        sell(product, quantity=1 + number % 3, strategy=SAFE[number % len(SAFE)])

    counter.open_queue(product.pk)
    over = threading.Event()

    def commit_meanwhile() -> None:
        consumer = Consumer("meanwhile")
        while not over.is_set():
            consumer.commit_new(product) or over.wait(0.005)
        connection.close()

    committing = threading.Thread(target=commit_meanwhile)
    committing.start()
    outcomes = race_in_processes(2, 16, buy_in_turn, times=6)
    over.set()
    committing.join()

    assert set(outcomes) <= {"sold", "SoldOut"}
    books = drained(product)
    assert audit(books) == []
    assert books.units_sold() == 150 - books.stock.available
    assert books.stock.available < 3
    assert {order.strategy for order in books.orders} == set(SAFE)


def test_the_control_oversells_under_the_same_load(make_product: MakeProduct) -> None:
    """Otherwise the tests above prove nothing."""
    product = make_product(units=20, strategy="unguarded", is_lab=True)

    outcomes = race_in_processes(2, 25, lambda n: sell(product), times=2)

    books = read_books(product.pk)
    assert books.oversold() > 0
    assert outcomes["sold"] == len(books.orders)
    assert {"oversold", "chain_broken"} <= {finding.code for finding in audit(books)}


def test_a_busy_row_is_answered_busy_within_a_bound(make_product: MakeProduct) -> None:
    """A holder who never commits costs the others a lock wait each, not a hang."""
    import time

    from django.db import transaction

    from inventory.models import Stock

    product = make_product(units=5, strategy="pessimistic")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Stock.objects.select_for_update().get(product_id=product.pk)
            held.set()
            done.wait(20)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(5)
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
    begun = time.monotonic()

    with pytest.raises(StockBusy) as busy:
        sell(product)

    waited_s = time.monotonic() - begun
    done.set()
    holder.join()
    connection.close()
    assert busy.value.attempts == 2
    assert 1.5 < waited_s < 6
    assert not Order.objects.exists()
    assert sell(Product.objects.get()).available == 4


def test_counts_of_outcomes_add_up() -> None:
    """The race helper itself loses nobody."""
    with Crowd(10) as crowd:
        outcomes = crowd.race(lambda n: 1 / (n % 2))
    assert outcomes == Counter(sold=5, ZeroDivisionError=5)
