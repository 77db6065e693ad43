"""Server-Timing: where a purchase's time went, for who asks for it."""

from __future__ import annotations

import re
import uuid

import pytest
from django.conf import settings
from django.test import Client, override_settings

from conftest import MakeProduct

pytestmark = pytest.mark.django_db(transaction=True)
TIMED = [*settings.MIDDLEWARE, "shop.timing.ServerTimingMiddleware"]

EXPECTED = {
    "optimistic": {"queue", "lock", "hold", "commit"},
    "pessimistic": {"queue", "lock", "hold", "commit"},
    "redis_lock": {"queue", "lock", "hold", "commit"},
    "conditional_update": {"queue", "lock", "hold", "commit"},
    "stored_procedure": {"queue"},
    "group_commit": {"lock", "hold", "commit"},
    "redis_counter": set(),
}


def buy(strategy: str, make_product: MakeProduct) -> str:
    make_product(strategy=strategy)
    response = Client().post(
        "/products/lamp/buy/", {"key": uuid.uuid4()}, headers={"Accept": "application/json"}
    )
    assert response.status_code in (201, 202)
    return response.headers.get("Server-Timing", "")


def test_tells_where_the_time_of_a_sale_went(strategy: str, make_product: MakeProduct) -> None:
    with override_settings(MIDDLEWARE=TIMED):
        header = buy(strategy, make_product)

    spent = dict(re.findall(r"(\w+);dur=([0-9.]+)", header))
    assert set(spent) == EXPECTED[strategy]
    if "hold" in spent:
        assert float(spent["hold"]) >= float(spent["commit"]) > 0
        assert header.endswith('attempts;desc="1"')


def test_says_nothing_unless_asked(make_product: MakeProduct) -> None:
    assert buy("conditional_update", make_product) == ""


def test_says_nothing_of_pages(make_product: MakeProduct) -> None:
    make_product()
    with override_settings(MIDDLEWARE=TIMED):
        assert "Server-Timing" not in Client().get("/products/lamp/").headers
