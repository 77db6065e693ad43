"""The database backend opens a transaction in one round trip and closes it in one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import OperationalError, connection, transaction

from conftest import MakeProduct
from inventory.models import Product, Stock

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(transaction=True)]


def sent_by(action: Callable[[], object]) -> int:
    """How many statements the server got from this connection meanwhile."""

    def questions() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SHOW SESSION STATUS LIKE 'Questions'")
            return int(cursor.fetchone()[1])

    before = questions()
    action()
    return questions() - before - 1


def test_a_transaction_costs_two_statements_more(make_product: MakeProduct) -> None:
    product = make_product(units=5)

    def write() -> None:
        with transaction.atomic():
            Stock.objects.filter(product=product).update(version=7)

    assert sent_by(write) == 3


def test_keeps_what_was_committed_and_nothing_else(make_product: MakeProduct) -> None:
    product = make_product(units=5)
    with transaction.atomic():
        Product.objects.filter(pk=product.pk).update(name="kept")
    with transaction.atomic():
        Product.objects.filter(pk=product.pk).update(name="given up")
        transaction.set_rollback(True)
    connection.close()
    assert Product.objects.get(pk=product.pk).name == "kept"
    Product.objects.filter(pk=product.pk).update(name="alone")
    connection.close()
    assert Product.objects.get(pk=product.pk).name == "alone", "autocommit is on again"


def test_a_connection_lost_before_it_begins_is_an_operational_error() -> None:
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        (number,) = cursor.fetchone()
        other = connection.copy()
        with other.cursor() as killer:
            killer.execute(f"KILL {number}")
        other.close()
    with pytest.raises(OperationalError), transaction.atomic():
        pytest.fail("nothing runs on a lost connection")
    connection.close()
