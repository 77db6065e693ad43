"""The live stock: cheap for a crowd that watches, and never told from long ago."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from conftest import Buy, MakeProduct
from inventory import crowds
from inventory.models import Product, Stock
from shop import live_stock

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

pytestmark = pytest.mark.django_db(transaction=True)

STOCK = "/products/lamp/stock/"
HTMX = {"HX-Request": "true"}


class Clock:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(crowds, "time", clock)
    return clock


def text_of(response: Response) -> str:
    return response.content.decode()


# What it says


def test_answers_htmx_with_the_piece_of_page_and_all_others_with_json(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(units=7)

    piece = client.get(STOCK, headers=HTMX)
    told = client.get(STOCK)

    assert "7 left" in text_of(piece)
    assert "<html" not in text_of(piece)
    assert 'data-state="open" data-available="7"' in text_of(piece)
    assert piece["Content-Type"].startswith("text/html")
    assert told.json() == {"available": 7, "state": "open"}


def test_the_piece_is_the_one_that_is_in_the_page(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(units=3, opens_at=timezone.now() + timedelta(hours=1))

    piece = client.get(STOCK, headers=HTMX)

    assert text_of(piece).strip() in text_of(client.get("/products/lamp/"))
    assert 'data-opens-at="' in text_of(piece)


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_names_no_cookie_and_asks_for_no_session(
    client: Client, make_product: MakeProduct, headers: dict[str, str]
) -> None:
    make_product()

    response = client.get(STOCK, headers=headers)

    assert not response.cookies
    assert response["Cache-Control"] == "max-age=1"


def test_an_opened_sale_is_told_at_once_from_memory(
    client: Client, make_product: MakeProduct, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row may be a second old; the state is judged by the clock of the answer."""
    opens_at = timezone.now() + timedelta(hours=1)
    make_product(opens_at=opens_at)
    assert client.get(STOCK).json()["state"] == "opens"
    monkeypatch.setattr("shop.views.products.timezone.now", lambda: opens_at)

    assert client.get(STOCK).json()["state"] == "open"


# What it costs


def test_a_crowd_within_a_second_costs_one_query(
    client: Client,
    make_product: MakeProduct,
    clock: Clock,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    make_product()

    with django_assert_num_queries(1):
        for headers in (HTMX, {}, HTMX, {}):
            client.get(STOCK, headers=headers)


def test_says_after_a_second_what_the_row_says_then(
    client: Client, make_product: MakeProduct, buy: Buy, clock: Clock
) -> None:
    product = make_product(units=10)
    client.get(STOCK)
    buy(product, quantity=4)

    clock.now_s += 0.9
    before = client.get(STOCK).json()["available"]
    clock.now_s += 0.2
    after = client.get(STOCK).json()["available"]

    assert (before, after) == (10, 6)


def test_while_one_reads_anew_the_others_go_on_with_what_is_known(
    make_product: MakeProduct, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_product(units=10)
    live_stock.product_with_stock("lamp")
    clock.now_s += live_stock.KEPT_S
    reading, go_on = threading.Event(), threading.Event()
    reads: list[Product] = []

    def read_slowly(slug: str) -> Any:
        reading.set()
        go_on.wait(5)
        reads.append(Product(slug=slug))
        return reads[-1]

    monkeypatch.setattr(live_stock, "_read", read_slowly)
    one = threading.Thread(target=live_stock.product_with_stock, args=("lamp",))
    one.start()
    assert reading.wait(5)

    known = live_stock.product_with_stock("lamp")
    go_on.set()
    one.join(5)

    assert known.available == 10
    assert len(reads) == 1


def test_what_is_older_than_two_seconds_is_told_to_nobody(
    make_product: MakeProduct, buy: Buy, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also not when whoever was sent to read it anew came back with nothing."""
    product = make_product(units=10)
    live_stock.product_with_stock("lamp")
    buy(product, quantity=1)
    clock.now_s += live_stock.KEPT_S
    with monkeypatch.context() as broken:
        broken.setattr(live_stock, "_read", raise_outage)
        with pytest.raises(OperationalError):
            live_stock.product_with_stock("lamp")
    meanwhile = live_stock.product_with_stock("lamp").available

    clock.now_s += live_stock.STALE_S - live_stock.KEPT_S

    assert meanwhile == 10
    assert live_stock.product_with_stock("lamp").available == 9


def raise_outage(slug: str) -> Any:
    raise OperationalError(2006, "gone away")


def test_an_outage_is_answered_503(
    client: Client, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_product()
    monkeypatch.setattr(live_stock, "_read", raise_outage)

    assert client.get(STOCK).status_code == 503


def test_buying_never_asks_the_memory(
    client: Client, make_product: MakeProduct, clock: Clock
) -> None:
    make_product(units=0)
    assert client.get(STOCK).json()["state"] == "sold_out"
    Stock.objects.update(available=1)

    assert client.post("/products/lamp/buy/")["Location"].startswith("/orders/")


# What need not be sent again


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_sends_nothing_again_that_has_not_changed(
    client: Client, make_product: MakeProduct, headers: dict[str, str]
) -> None:
    make_product()
    first = client.get(STOCK, headers=headers)

    again = client.get(STOCK, headers={**headers, "If-None-Match": first["ETag"]})

    assert (again.status_code, again.content) == (304, b"")
    assert (again["ETag"], again["Cache-Control"]) == (first["ETag"], "max-age=1")


def test_sends_it_again_once_it_has_changed(
    client: Client, make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product()
    first = client.get(STOCK, headers=HTMX)
    buy(product)
    live_stock.forget()

    again = client.get(STOCK, headers={**HTMX, "If-None-Match": first["ETag"]})

    assert again.status_code == 200
    assert again["ETag"] != first["ETag"]
    assert "9 left" in text_of(again)


def test_a_moved_start_is_a_change(client: Client, make_product: MakeProduct) -> None:
    make_product(opens_at=timezone.now() + timedelta(hours=1))
    first = client.get(STOCK, headers=HTMX)["ETag"]
    Product.objects.update(opens_at=timezone.now() + timedelta(hours=2))
    live_stock.forget()

    assert client.get(STOCK, headers=HTMX)["ETag"] != first


def test_json_piece_and_language_are_kept_apart(client: Client, make_product: MakeProduct) -> None:
    make_product()

    answers = [
        client.get(STOCK),
        client.get(STOCK, headers=HTMX),
        client.get(STOCK, headers={**HTMX, "Accept-Language": "zh-hans"}),
    ]

    assert len({answer["ETag"] for answer in answers}) == 3
    assert all({"HX-Request", "Cookie"} <= set(a["Vary"].split(", ")) for a in answers)
