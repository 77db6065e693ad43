"""Reading the books of a run: all of the run, and no more than that."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from conftest import Buy, MakeProduct
from inventory import holds
from inventory.audit import Snapshot, audit, read_books
from inventory.models import Movement, Order, Product

pytestmark = pytest.mark.django_db(transaction=True)


def orphan(product: Product, *, minutes_ago: int) -> Order:
    return Order.objects.create(
        product=product,
        buyer="guest:ada",
        key=uuid.uuid4(),
        quantity=1,
        unit_price=1,
        strategy="x",
        created_at=timezone.now() - timedelta(minutes=minutes_ago),
    )


def test_reads_what_was_sold_since_and_the_orders_that_took_no_units(
    make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product(units=10)
    buy(product)
    opening = Snapshot(available=9, version=2, taken_at=timezone.now())
    sold = buy(product).order
    lost = orphan(product, minutes_ago=0).reference
    orphan(product, minutes_ago=5)

    books = read_books(product.pk, since=opening)

    assert {order.reference for order in books.orders} == {sold, lost}
    assert [finding.code for finding in audit(books)] == ["order_without_sale"]


def test_reads_every_order_of_the_whole_history(make_product: MakeProduct, buy: Buy) -> None:
    product = make_product(units=10)
    buy(product)
    orphan(product, minutes_ago=10_000)

    assert len(read_books(product.pk).orders) == 2


def test_an_order_sold_twice_is_one_order(make_product: MakeProduct, buy: Buy) -> None:
    product = make_product(units=10)
    receipt = buy(product)
    sale = Movement.objects.get(order_id=receipt.order)
    sale.pk, sale.version = None, 3
    sale.save()

    books = read_books(product.pk)

    assert len(books.orders) == 1
    assert "order_sold_twice" in {finding.code for finding in audit(books)}


def test_reads_an_order_sold_before_and_given_back_since_apart(
    make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product(units=10)
    earlier = buy(product).order
    opening = Snapshot(available=9, version=2, taken_at=timezone.now())
    both = buy(product).order
    for order in (earlier, both):
        holds.cancel_for_buyer(reference=order, reason="broken", actor="user:7")

    books = read_books(product.pk, since=opening)

    assert [order.reference for order in books.orders] == [both]
    assert [order.reference for order in books.earlier_orders] == [earlier]
    assert (books.units_sold(), books.units_put_in(), books.oversold()) == (0, 10, 0)
    assert audit(books) == []


def test_an_order_with_a_return_and_no_sale_is_found(make_product: MakeProduct) -> None:
    product = make_product(units=10)
    order = orphan(product, minutes_ago=0)
    holds.cancel_for_buyer(reference=order.pk, reason="broken", actor="user:7")

    found = {finding.code for finding in audit(read_books(product.pk))}

    assert "order_without_sale" in found
