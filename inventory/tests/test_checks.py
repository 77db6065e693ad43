"""The system check: a product that could not be sold here is named at start-up."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from pytest_django import Settings

from conftest import SAFE, MakeProduct
from inventory.models import Product
from inventory.strategies import STRATEGIES

pytestmark = pytest.mark.django_db


def problems() -> list[CheckMessage]:
    return [
        message
        for message in run_checks(databases=["default"])
        if message.id and message.id.startswith("inventory.")
    ]


@pytest.fixture
def without_redis(settings: Settings) -> None:
    """Take the locks cache away, as without REDIS_URL."""
    caches: dict[str, Any] = settings.CACHES
    settings.CACHES = {name: cache for name, cache in caches.items() if name != "locks"}


def test_is_clean_when_every_product_can_be_sold(make_product: MakeProduct) -> None:
    for name in SAFE:
        if STRATEGIES[name].unavailable_reason() is None:
            make_product(name.replace("_", "-"), strategy=name)

    assert problems() == []


def test_names_a_product_whose_strategy_is_not_there(make_product: MakeProduct) -> None:
    make_product("lamp")
    product = make_product("kettle", strategy="wishful")

    [problem] = problems()

    assert problem.id == "inventory.E001"
    assert problem.is_serious()
    assert f"“{product.slug}”" in problem.msg
    assert "“kettle” cannot be sold by wishful" in problem.msg
    assert "there is no strategy of that name" in problem.msg
    assert "another strategy" in str(problem.hint)


@pytest.mark.usefixtures("without_redis")
def test_names_a_product_that_needs_a_redis_there_is_not(make_product: MakeProduct) -> None:
    product = make_product("lamp", strategy="redis_lock")
    make_product("kettle", strategy="conditional_update")

    [problem] = problems()

    assert problem.id == "inventory.E001"
    assert f"“{product.slug}”" in problem.msg
    assert "“lamp” cannot be sold by redis_lock" in problem.msg
    assert "REDIS_URL" in problem.msg
    assert "Provide what is missing" in str(problem.hint)


@pytest.mark.usefixtures("without_redis")
def test_names_every_such_product(make_product: MakeProduct) -> None:
    make_product("lamp", strategy="redis_lock")
    make_product("kettle", strategy="wishful")

    named = [problem.msg.split("”")[0].strip("“") for problem in problems()]
    assert named == list(Product.objects.order_by("name").values_list("slug", flat=True))


@pytest.mark.usefixtures("without_redis")
def test_says_nothing_of_lab_products(make_product: MakeProduct) -> None:
    """The next run gives them the strategy they need."""
    make_product("lab", strategy="redis_lock", is_lab=True)
    make_product("lab-2", strategy="unguarded", is_lab=True)

    assert problems() == []


def test_asks_no_database_that_was_not_named(make_product: MakeProduct) -> None:
    make_product(strategy="wishful")

    assert not [message for message in run_checks() if message.id == "inventory.E001"]


def test_stops_manage_py_check_with_the_database(make_product: MakeProduct) -> None:
    make_product(strategy="wishful")

    with pytest.raises(SystemCheckError, match=r"inventory\.E001"):
        call_command("check", databases=["default"])
