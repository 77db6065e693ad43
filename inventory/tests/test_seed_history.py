"""The history to look at the desk with: as large as asked, and its books agree."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command

from inventory.audit import audit, read_books
from inventory.models import Movement, Order, Product

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_history_has_so_many_orders_of_every_status_and_its_books_agree() -> None:
    call_command("seed_history", orders=4000, products=3, verbosity=0)

    products = Product.objects.filter(slug__startswith="history-")
    assert products.count() == 3
    assert Order.objects.count() == 4000
    assert Order.objects.filter(product__slug="history-0").count() == 2800
    assert set(Order.objects.values_list("status", flat=True)) == set(Order.Status.values)
    assert Movement.objects.filter(kind=Movement.Kind.SALE).count() == 4000
    for product in products:
        assert audit(read_books(product.pk)) == []


def test_it_is_written_only_once() -> None:
    call_command("seed_history", orders=10, products=2, verbosity=0)

    with pytest.raises(CommandError, match="already"):
        call_command("seed_history", orders=10, products=2, verbosity=0)

    assert Order.objects.count() == 10


@pytest.mark.parametrize(("orders", "products"), [(0, 2), (10, 1)])
def test_a_history_of_nothing_is_refused(orders: int, products: int) -> None:
    with pytest.raises(CommandError, match="at least"):
        call_command("seed_history", orders=orders, products=products)
