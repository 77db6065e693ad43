"""How a product is sold is read once for a crowd, and is at most a second old."""

from __future__ import annotations

import pytest
from pytest_django import DjangoAssertNumQueries

from conftest import MakeProduct
from inventory import crowds, terms
from inventory.errors import ProductNotFound
from inventory.models import Product

pytestmark = pytest.mark.django_db


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(crowds, "time", clock)
    return clock


def test_reads_nothing_while_they_are_fresh(
    clock: Clock, make_product: MakeProduct, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    slug = make_product(units=1).slug
    terms.sale_terms(slug)
    clock.now += terms.RENEW_AFTER_S - 0.01
    with django_assert_num_queries(0):
        terms.sale_terms(slug)


def test_sends_one_of_a_crowd_to_read_before_they_are_stale(
    clock: Clock, make_product: MakeProduct
) -> None:
    slug = make_product(units=1).slug
    known = terms.sale_terms(slug)
    clock.now += terms.RENEW_AFTER_S
    assert terms.fresh_terms(slug) is None, "the first is to read"
    assert terms.fresh_terms(slug) == known, "the second goes on with what is known"
    terms.read_terms(slug)
    assert terms.fresh_terms(slug) == known, "until the next half second is over"


def test_nobody_goes_on_with_stale_ones_when_the_reader_failed(
    clock: Clock, make_product: MakeProduct
) -> None:
    slug = make_product(units=1).slug
    terms.sale_terms(slug)
    clock.now += terms.RENEW_AFTER_S
    assert terms.fresh_terms(slug) is None
    clock.now += terms.TERMS_CACHE_S - terms.RENEW_AFTER_S
    assert [terms.fresh_terms(slug), terms.fresh_terms(slug)] == [None, None]


def test_tells_a_change_within_a_second(clock: Clock, make_product: MakeProduct) -> None:
    product = make_product(units=1)
    terms.sale_terms(product.slug)
    Product.objects.filter(pk=product.pk).update(price="9.00")
    clock.now += terms.TERMS_CACHE_S
    assert terms.sale_terms(product.slug).price == 9


def test_does_not_keep_that_a_product_is_not_there(make_product: MakeProduct) -> None:
    with pytest.raises(ProductNotFound):
        terms.sale_terms("new")
    make_product(slug="new", units=1)
    assert terms.sale_terms("new").product_id
