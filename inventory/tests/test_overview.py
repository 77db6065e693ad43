"""How the sales stand: right figures, few queries, no scan."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_redis import get_redis_connection
from pytest_django import Settings

from conftest import Buy, MakeProduct, drain
from inventory import adjustments, counter, holds
from inventory.models import Movement, Order, Product
from inventory.overview import ProductFigures, read_figures
from inventory.purchases import purchase
from inventory.tests.servers import OwnRedis

pytestmark = pytest.mark.django_db(transaction=True)
HOUR = timedelta(hours=1)
QUERIES = 2


def figures_of(product: Product) -> ProductFigures:
    [line] = [line for line in read_figures().products if line.product.pk == product.pk]
    return line


def test_counts_what_is_left_of_what_it_was_filled_to(make_product: MakeProduct, buy: Buy) -> None:
    product = make_product(units=10)
    buy(product, quantity=3)

    line = figures_of(product)

    assert (line.available, line.filled_to, line.sold_per_minute) == (7, 10, 3)
    assert (line.holds, line.units_held, line.next_expiry_at) == (0, 0, None)
    assert line.state == Product.SaleState.OPEN


def test_the_whole_is_what_there_was_after_the_last_filling(
    make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product(units=1000)
    adjustments.reset(slugs=[product.slug], units=50, reason="less", actor="test")
    buy(product, quantity=20)
    assert figures_of(product).filled_to == 50

    restock(product, 5)
    assert figures_of(product).filled_to == 35

    correct(product, 100)
    assert figures_of(product).filled_to == 135


def restock(product: Product, units: int) -> None:
    change(product, units, Movement.Kind.RESTOCK)


def correct(product: Product, units: int) -> None:
    change(product, units, Movement.Kind.CORRECTION)


def change(product: Product, units: int, kind: Movement.Kind) -> None:
    adjustments.adjust(product_id=product.pk, delta=units, kind=kind, reason="-", actor="test")


def test_counts_holds_and_says_when_the_next_ends(make_product: MakeProduct, buy: Buy) -> None:
    product = make_product(units=10, hold_minutes=30)
    first = buy(product, quantity=2)
    buy(product)
    Order.objects.filter(pk=first.order).update(expires_at=timezone.now() + timedelta(minutes=5))
    called_off = buy(product, buyer="guest:1")
    holds.cancel(reference=called_off.order, buyer="guest:1")

    line = figures_of(product)

    assert (line.holds, line.units_held, line.sold_per_minute) == (2, 3, 3)
    assert line.next_expiry_at is not None
    assert line.next_expiry_at < timezone.now() + timedelta(minutes=6)


def test_an_order_of_two_minutes_ago_is_not_of_the_last_minute(
    make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product()
    receipt = buy(product)
    Order.objects.filter(pk=receipt.order).update(created_at=timezone.now() - timedelta(minutes=2))

    assert figures_of(product).sold_per_minute == 0


def test_shows_what_is_on_sale_or_was_until_yesterday_and_not_the_labs(
    make_product: MakeProduct,
) -> None:
    now = timezone.now()
    make_product("open")
    make_product("opens", opens_at=now + HOUR)
    make_product("ended", closes_at=now - HOUR)
    make_product("empty", units=0)
    make_product("old", closes_at=now - 30 * HOUR)
    make_product("lab", is_lab=True)
    Product.objects.create(slug="rowless", name="Rowless", price=1)

    states = {line.product.slug: str(line.state) for line in read_figures().products}

    assert states == {
        "open": "open",
        "opens": "opens",
        "ended": "ended",
        "empty": "sold_out",
        "rowless": "sold_out",
    }


def test_nothing_on_sale_is_no_error() -> None:
    figures = read_figures()

    assert (figures.products, figures.taken_at) == ([], None)


def test_asks_twice_however_many_products_there_are(make_product: MakeProduct, buy: Buy) -> None:
    for number in range(20):
        buy(make_product(f"lamp-{number}", hold_minutes=5 if number % 2 else None))

    with CaptureQueriesContext(
        connection,
    ) as seen:
        read_figures()

    assert len(seen) == QUERIES


@pytest.mark.mariadb
def test_no_statement_scans_orders_or_movements(make_product: MakeProduct) -> None:
    """With enough rows that a scan would be the worse plan."""
    product = make_product(units=10, hold_minutes=5)
    purchase(slug=product.slug, quantity=1, buyer="guest:1", key=uuid.uuid4())
    [sale] = Movement.objects.filter(kind=Movement.Kind.SALE)
    long_ago = timezone.now() - timedelta(days=3)
    orders = [
        Order(
            product=product,
            buyer=f"guest:{number}",
            key=uuid.uuid4(),
            quantity=1,
            unit_price=1,
            strategy="optimistic",
            created_at=long_ago,
        )
        for number in range(5000)
    ]
    Order.objects.bulk_create(orders, batch_size=1000)
    Movement.objects.bulk_create(
        [
            Movement(
                product=product,
                version=sale.version + number + 1,
                kind=Movement.Kind.SALE,
                delta=-1,
                available_after=0,
                actor="test",
            )
            for number in range(5000)
        ],
        batch_size=1000,
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE TABLE inventory_order, inventory_movement")
        cursor.fetchall()

    with CaptureQueriesContext(connection) as seen:
        read_figures()

    steps = [step for query in seen for step in explained(query["sql"])]
    books = [
        step for step in steps if step["table"] in ("inventory_order", "U0", "inventory_movement")
    ]
    assert len(books) >= 2
    assert [step for step in books if step["type"] in ("ALL", "index")] == []
    assert all(int(step["rows"]) < 100 for step in books if step["table"] == "inventory_order")


def explained(sql: str) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@pytest.mark.redis
def test_knows_what_is_on_its_way_and_for_how_long(make_product: MakeProduct) -> None:
    product = make_product(strategy="redis_counter")
    purchase(slug=product.slug, quantity=1, buyer="guest:1", key=uuid.uuid4())
    purchase(slug=product.slug, quantity=1, buyer="guest:2", key=uuid.uuid4())

    queue = figures_of(product).queue

    assert queue is not None
    assert queue.length == 2
    assert 0 <= queue.oldest_s < 30
    drain(product)
    queue = figures_of(product).queue
    assert queue is not None
    assert (queue.length, queue.oldest_s) == (0, 0.0)
    assert figures_of(product).counter_says is None


@pytest.mark.redis
def test_a_counter_that_differs_is_told_only_while_nothing_is_on_its_way(
    make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product(units=10, strategy="redis_counter")
    buy(product)
    assert figures_of(product).counter_says is None

    get_redis_connection("locks").hset(counter.keys_of(product.pk)[0], "left", 99)
    assert figures_of(product).counter_says == "99"

    purchase(slug=product.slug, quantity=1, buyer="guest:1", key=uuid.uuid4())
    assert figures_of(product).counter_says is None


@pytest.mark.redis
def test_a_counter_that_moves_while_it_is_read_is_not_wrong(
    make_product: MakeProduct, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit is sold and committed between the stock row's reading and the counter's."""
    product = make_product(units=10, strategy="redis_counter")
    buy(product)
    from inventory import queues

    read = queues.read_queues
    late: list[int] = []

    def read_late(product_ids: list[int]) -> Any:
        if not late:
            late.append(1)
            buy(product)
        return read(product_ids)

    monkeypatch.setattr(queues, "read_queues", read_late)

    assert figures_of(product).counter_says is None
    assert late


@pytest.mark.redis
def test_what_is_no_counter_and_no_queue_reads_as_nothing(make_product: MakeProduct) -> None:
    product = make_product(strategy="redis_counter")
    redis = get_redis_connection("locks")
    name, _, stream = counter.keys_of(product.pk)
    redis.set(name, "garbage")
    redis.set(stream, "garbage")

    line = figures_of(product)

    assert line.queue is not None
    assert line.queue.length == 0
    assert line.counter_says is None


@pytest.mark.redis
def test_a_dead_redis_leaves_the_databases_figures(
    make_product: MakeProduct, own_redis: OwnRedis
) -> None:
    product = make_product()
    own_redis.kill()

    figures = read_figures()

    assert (figures.has_redis, figures.redis_answers) == (True, False)
    [line] = figures.products
    assert (line.product.pk, line.available, line.refusals) == (product.pk, 10, None)


def test_without_redis_it_says_so(make_product: MakeProduct, settings: Settings) -> None:
    make_product()
    settings.CACHES = {"default": settings.CACHES["default"]}

    figures = read_figures()

    assert (figures.has_redis, figures.products[0].refusals) == (False, None)
    assert json.dumps(figures.products[0].available) == "10"
