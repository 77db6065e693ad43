"""Stricter isolation than the shop's own costs tries, never a unit: every strategy, on MariaDB."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from django.db import connection

from conftest import MakeProduct, drain
from inventory.audit import audit, read_books
from inventory.models import Product
from inventory.strategies import STRATEGIES
from inventory.strategies.base import PurchaseRequest
from inventory.tests.races import race_in_processes
from inventory.tests.test_races import sell

pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.redis,
    pytest.mark.django_db(transaction=True),
]

UNITS = 40


@pytest.fixture(
    params=[
        ("repeatable read", "OFF"),
        ("repeatable read", "ON"),
        ("serializable", "OFF"),
        ("serializable", "ON"),
    ],
    ids=lambda level: f"{level[0]}, snapshot {level[1]}",
)
def isolation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Have every connection made from here on at that level."""
    level, snapshot = request.param
    options = connection.settings_dict["OPTIONS"]
    monkeypatch.setitem(options, "isolation_level", level)
    command = f"{options['init_command']}, SESSION innodb_snapshot_isolation={snapshot}"
    monkeypatch.setitem(options, "init_command", command)
    connection.close()
    yield level
    connection.close()


def test_the_connections_are_at_that_level(isolation: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW VARIABLES WHERE Variable_name REGEXP '^(tx|transaction)_isolation$'")
        assert cursor.fetchone()[1].replace("-", " ").lower() == isolation


def test_sells_no_unit_twice_and_ends(
    isolation: str, strategy: str, make_product: MakeProduct
) -> None:
    product = make_product(units=UNITS, strategy=strategy)

    outcomes = race_in_processes(2, 8, lambda n: sell(product), times=8)

    drain(product)
    books = read_books(product.pk)
    assert audit(books) == []
    assert set(outcomes) <= {"sold", "SoldOut", "StockBusy"}
    assert outcomes["sold"] == len(books.orders)
    if isolation == "repeatable read":
        assert outcomes["sold"] == UNITS


def test_one_buyer_gets_no_more_than_the_limit(
    isolation: str, strategy: str, make_product: MakeProduct
) -> None:
    product = make_product(units=UNITS, strategy=strategy, limit_per_buyer=3)

    outcomes = race_in_processes(2, 8, lambda n: sell_to_ada(product), times=2)

    drain(product)
    books = read_books(product.pk)
    assert audit(books) == []
    assert outcomes["sold"] == len(books.orders) <= 3
    if isolation == "repeatable read":
        assert outcomes["sold"] == 3


def sell_to_ada(product: Product) -> None:
    STRATEGIES[product.strategy].sell(
        PurchaseRequest(
            product_id=product.pk,
            quantity=1,
            buyer="guest:ada",
            key=uuid.uuid4(),
            unit_price=product.price,
            strategy=product.strategy,
            limit=product.limit_per_buyer,
        )
    )
