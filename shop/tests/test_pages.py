"""What shoppers see, what it costs the database, and whose orders are whose."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.core.signing import get_cookie_signer
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from conftest import Buy, MakeProduct
from inventory import terms
from inventory.models import Order, Product, Stock
from shop import live_stock
from shop.views import buying, products

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

pytestmark = pytest.mark.django_db(transaction=True)

JSON = {"Accept": "application/json"}
SCRIPT = "<script>alert(1)</script>"


def text_of(response: Response) -> str:
    return response.content.decode()


def state_on(page: Response) -> str:
    """Read the sale's state off a page with one product, without its markup."""
    found = re.search(r'<span class="state[^>]*>(.*?)</span>', text_of(page))
    assert found
    return re.sub(r"<[^>]+>", "", found[1])


def buyer_of(client: Client) -> str:
    """Learn who the shop takes this client for, by buying."""
    response = client.post("/products/lamp/buy/", headers=JSON)
    return Order.objects.get(reference=response.json()["order"]).buyer


@contextmanager
def outage(code: int) -> Iterator[None]:
    """Answer every query with this error of the MySQL client."""

    def fail(*args: object) -> Any:
        raise OperationalError(code, "the cable was pulled")

    with connection.execute_wrapper(fail):
        yield


# The products


def test_lists_what_is_sold_but_not_the_labs_own(client: Client, make_product: MakeProduct) -> None:
    make_product("lamp", name="Desk lamp")
    make_product("dummy", name="Crash test dummy", is_lab=True)

    page = client.get("/")

    assert page.status_code == 200
    assert "Desk lamp" in text_of(page)
    assert "/products/lamp/" in text_of(page)
    assert "ummy" not in text_of(page)


def test_says_so_when_nothing_is_sold(client: Client) -> None:
    assert "Nothing is on sale yet." in text_of(client.get("/"))


@pytest.mark.parametrize("address", ["/", "/products/lamp/"])
@pytest.mark.parametrize(
    ("units", "opens_in_h", "closes_in_h", "state"),
    [
        (3, None, None, "3 left"),
        (1, -1, 1, "1 left"),
        (0, None, None, "Sold out"),
        (0, -1, 1, "Sold out"),
        (3, -2, -1, "Sale ended"),
        (0, -2, -1, "Sale ended"),
        (3, 1, 2, "Opens "),
        (0, 1, None, "Opens "),
    ],
)
def test_shows_the_state_of_the_sale(
    client: Client,
    make_product: MakeProduct,
    address: str,
    units: int,
    opens_in_h: int | None,
    closes_in_h: int | None,
    state: str,
) -> None:
    now = timezone.now()
    make_product(
        units=units,
        opens_at=None if opens_in_h is None else now + timedelta(hours=opens_in_h),
        closes_at=None if closes_in_h is None else now + timedelta(hours=closes_in_h),
    )

    page = client.get(address)

    assert state_on(page).startswith(state)


def test_says_when_a_sale_opens_and_when_it_closes(
    client: Client, make_product: MakeProduct
) -> None:
    opens_at = timezone.now() + timedelta(days=1)
    closes_at = opens_at + timedelta(days=1)
    make_product(opens_at=opens_at, closes_at=closes_at)

    page = client.get("/products/lamp/")

    moments = re.findall(r'<time datetime="([^"]+)"', text_of(page))
    assert moments == [opens_at.isoformat(), closes_at.isoformat()]


def test_gives_each_visit_to_a_product_a_fresh_key(
    client: Client, make_product: MakeProduct
) -> None:
    make_product()

    pages = [text_of(client.get("/products/lamp/")) for _ in range(3)]

    keys = {re.search(r'name="key" value="([^"]+)"', page)[1] for page in pages}  # type: ignore[index]  # there is one
    assert len(keys) == 3
    assert all(uuid.UUID(key).version == 4 for key in keys)


@pytest.mark.parametrize("address", ["/", "/products/lamp/", "/orders/", "one order"])
def test_escapes_what_a_product_is_called(
    client: Client, make_product: MakeProduct, address: str
) -> None:
    make_product(name=SCRIPT, description=SCRIPT)
    bought = client.post("/products/lamp/buy/")

    page = client.get(bought["Location"] if address == "one order" else address)

    assert page.status_code == 200
    assert SCRIPT not in text_of(page)
    assert "&lt;script&gt;" in text_of(page)


@pytest.mark.parametrize("address", ["/", "/products/lamp/", "/orders/"])
def test_pages_are_looked_at_and_never_posted_to(
    client: Client, make_product: MakeProduct, address: str
) -> None:
    make_product()

    assert client.head(address).status_code == 200
    assert client.post(address).status_code == 405


# Live stock


def test_tells_the_live_stock_as_json(client: Client, make_product: MakeProduct, buy: Buy) -> None:
    product = make_product(units=10)
    before = client.get("/products/lamp/stock/")

    buy(product, quantity=3)

    live_stock.forget()
    after = client.get("/products/lamp/stock/")
    assert before.json() == {"available": 10, "state": "open"}
    assert after.json() == {"available": 7, "state": "open"}
    assert after["Content-Type"] == "application/json"


def test_has_no_live_stock_of_an_unknown_product(client: Client) -> None:
    response = client.get("/products/nothing/stock/", headers=JSON)

    assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("address", ["/", "/products/lamp/", "/products/lamp/stock/"])
def test_a_product_without_a_stock_row_breaks_no_page(client: Client, address: str) -> None:
    """It has no units; only code that bypasses the admin can make one."""
    Product.objects.create(slug="lamp", name="Lamp", price=1)

    page = client.get(address)

    assert page.status_code == 200
    assert not re.search(r"\d left", text_of(page))


# What it costs the database


def test_lists_twenty_products_in_as_many_queries_as_two(
    client: Client, make_product: MakeProduct, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(2):
        make_product(f"few-{number}")
    with django_assert_num_queries(1):
        client.get("/")
    for number in range(18):
        make_product(f"many-{number}")

    with django_assert_num_queries(1):
        page = client.get("/")

    assert text_of(page).count('class="card"') == 20


def test_shows_a_product_in_one_query(
    client: Client, make_product: MakeProduct, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    make_product()

    with django_assert_num_queries(1):
        client.get("/products/lamp/")


def test_lists_twenty_orders_in_one_query_and_counts_them_in_another(
    client: Client, make_product: MakeProduct, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    make_product(units=20)
    for _ in range(20):
        client.post("/products/lamp/buy/")

    with django_assert_num_queries(2):
        page = client.get("/orders/")

    assert text_of(page).count('class="row"') == 20


def test_sells_again_in_four_statements_and_one_transaction_without_reading_the_settings(
    client: Client, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sale's terms are remembered for a second; here for as long as the test needs."""
    monkeypatch.setattr(terms, "TERMS_CACHE_S", 60)
    make_product(strategy="conditional_update")

    with CaptureQueriesContext(connection) as first:
        assert client.post("/products/lamp/buy/", headers=JSON).status_code == 201
    with CaptureQueriesContext(connection) as second:
        assert client.post("/products/lamp/buy/", headers=JSON).status_code == 201

    expected = [
        r"BEGIN",
        r"INSERT INTO .inventory_order. ",
        r"UPDATE inventory_stock SET ",
        r"SELECT available, version FROM inventory_stock ",
        r"INSERT INTO .inventory_movement. ",
        r"COMMIT",
    ]
    statements = [query["sql"].strip() for query in second.captured_queries]
    assert len(statements) == len(expected), statements
    for pattern, statement in zip(expected, statements, strict=True):
        assert re.match(pattern, statement), statements
    assert len(first.captured_queries) == len(expected) + 1
    assert "inventory_product" in first.captured_queries[0]["sql"]


# Who is who


@pytest.mark.parametrize("address", ["/", "/products/lamp/", "/orders/"])
def test_gives_a_new_guest_a_cookie_that_scripts_and_other_sites_cannot_use(
    client: Client, make_product: MakeProduct, address: str
) -> None:
    make_product()

    cookie = client.get(address).cookies["guest"]

    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert not cookie["secure"]
    assert int(cookie["max-age"]) >= 30 * 24 * 3600
    assert cookie.value.count(":") == 2, "value, moment and signature"


def test_a_guests_cookie_given_over_https_never_travels_without(client: Client) -> None:
    cookie = client.get("/", secure=True).cookies["guest"]

    assert cookie["secure"]


def test_knows_a_guest_again_and_sends_no_second_cookie(
    client: Client, make_product: MakeProduct
) -> None:
    make_product()
    client.get("/")

    assert "guest" not in client.get("/").cookies
    assert buyer_of(client) == buyer_of(client)


def test_two_browsers_are_two_guests(make_product: MakeProduct) -> None:
    make_product()

    assert buyer_of(Client()) != buyer_of(Client())


@pytest.mark.parametrize(
    "forgery", ["signature", "value", "unsigned", "empty", "for another cookie"]
)
def test_a_forged_cookie_makes_a_new_guest(make_product: MakeProduct, forgery: str) -> None:
    make_product()
    ada, eve = Client(), Client()
    adas_buyer = buyer_of(ada)
    value, moment, signature = ada.cookies["guest"].value.split(":")
    eve.cookies["guest"] = {
        "signature": f"{value}:{moment}:{signature[::-1]}",
        "value": f"{uuid.uuid4().hex}:{moment}:{signature}",
        "unsigned": value,
        "empty": "",
        "for another cookie": get_cookie_signer(salt="other").sign(value),
    }[forgery]
    sent = eve.cookies["guest"].value

    eves_buyer = buyer_of(eve)

    assert eves_buyer != adas_buyer
    assert re.fullmatch(r"guest:[0-9a-f]{32}", eves_buyer)
    assert eve.cookies["guest"].value != sent, "and the forgery is replaced"
    assert buyer_of(eve) == eves_buyer


def test_a_signed_in_user_needs_no_guest_cookie(client: Client, make_product: MakeProduct) -> None:
    make_product()
    ada = User.objects.create_user("ada")
    client.force_login(ada)

    assert "guest" not in client.get("/").cookies
    assert buyer_of(client) == f"user:{ada.pk}"


def test_lists_the_buyers_own_orders_only(make_product: MakeProduct) -> None:
    make_product("lamp")
    make_product("vase")
    ada, bob = Client(), Client()
    adas = ada.post("/products/lamp/buy/")["Location"]
    bobs = bob.post("/products/vase/buy/")["Location"]

    adas_page, bobs_page = text_of(ada.get("/orders/")), text_of(bob.get("/orders/"))

    assert adas in adas_page
    assert bobs not in adas_page
    assert bobs in bobs_page
    assert adas not in bobs_page
    assert "not bought anything yet" in text_of(Client().get("/orders/"))


def test_lists_the_newest_order_first(client: Client, make_product: MakeProduct) -> None:
    make_product()
    bought = [client.post("/products/lamp/buy/")["Location"] for _ in range(3)]

    listed = re.findall(r'href="(/orders/[^"]+)"', text_of(client.get("/orders/")))

    assert [address for address in listed if address in bought] == bought[::-1]


@pytest.mark.parametrize("headers", [{}, JSON], ids=["page", "json"])
def test_someone_elses_order_is_not_found(
    make_product: MakeProduct, headers: dict[str, str]
) -> None:
    make_product()
    ada = Client()
    address = ada.post("/products/lamp/buy/")["Location"]

    response = Client().get(address, headers=headers)

    assert ada.get(address).status_code == 200
    assert response.status_code == 404
    assert "Lamp" not in text_of(response)


def test_a_guests_order_is_not_that_of_a_user_who_signs_in_elsewhere(
    client: Client, make_product: MakeProduct
) -> None:
    make_product()
    address = Client().post("/products/lamp/buy/")["Location"]
    client.force_login(User.objects.create_superuser("root"))

    assert client.get(address).status_code == 404


def test_shows_the_price_valid_when_it_was_sold(client: Client, make_product: MakeProduct) -> None:
    make_product(price="12.50")
    address = client.post("/products/lamp/buy/", {"quantity": 2})["Location"]
    Product.objects.update(price=99)

    page = text_of(client.get(address))

    assert "2 × € 12.50 = € 25.00" in page
    assert "€ 99" not in page


# What is not there, and what is broken

NOT_THERE = ["/nowhere/", "/products/nothing/", f"/orders/{uuid.UUID(int=7)}/", "/orders/7/"]


@pytest.mark.parametrize("address", NOT_THERE)
def test_shows_a_page_at_an_address_that_is_not_there(client: Client, address: str) -> None:
    response = client.get(address)

    assert response.status_code == 404
    assert response["Content-Type"].startswith("text/html")
    assert "There is nothing at this address." in text_of(response)
    assert 'href="/"' in text_of(response)


@pytest.mark.parametrize("address", NOT_THERE)
def test_answers_json_at_an_address_that_is_not_there(client: Client, address: str) -> None:
    response = client.get(address, headers=JSON)

    assert response.status_code == 404
    assert response["Content-Type"] == "application/problem+json"
    assert response.json() == {
        "title": "Not found",
        "status": 404,
        "code": "not_found",
        "detail": "There is nothing at this address.",
    }


ADDRESSES = ["/", "/products/lamp/", "/products/lamp/stock/", "/orders/", NOT_THERE[2]]
CODES = [2002, 2003, 2006, 2013, 1040]


@pytest.mark.parametrize("address", ADDRESSES)
def test_answers_503_while_the_database_cannot_be_reached(
    client: Client, make_product: MakeProduct, address: str
) -> None:
    make_product()

    with outage(2003):
        page, problem = client.get(address), client.get(address, headers=JSON)

    assert page.status_code == problem.status_code == 503
    assert int(page["Retry-After"]) >= 1
    assert int(problem["Retry-After"]) >= 1
    assert "Try again in a moment." in text_of(page)
    assert problem["Content-Type"] == "application/problem+json"
    assert problem.json()["status"] == 503
    assert "cable" not in text_of(page) + text_of(problem)


@pytest.mark.parametrize(
    "code",
    [
        *CODES,
        pytest.param(2005),
        pytest.param(1053),
    ],
)
def test_knows_every_code_of_a_database_that_is_away(client: Client, code: int) -> None:
    client.raise_request_exception = False

    with outage(code):
        response = client.get("/")

    assert response.status_code == 503


@pytest.mark.parametrize("terms_known", [False, True])
def test_answers_503_to_a_buyer_while_the_database_cannot_be_reached(
    client: Client, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch, terms_known: bool
) -> None:
    monkeypatch.setattr(terms, "TERMS_CACHE_S", 60)
    make_product()
    if terms_known:
        terms.sale_terms("lamp")

    with outage(2003):
        response = client.post("/products/lamp/buy/", headers=JSON)

    assert response.status_code == 503
    assert int(response["Retry-After"]) >= 1
    assert response.json()["code"] == "outcome_unknown"
    assert Stock.objects.get().available == 10


def test_answers_503_to_a_signed_in_user_too(client: Client, make_product: MakeProduct) -> None:
    """Who is asking is in the database as well."""
    make_product()
    client.force_login(User.objects.create_user("ada"))

    with outage(2003):
        assert client.get("/orders/").status_code == 503


def test_recovers_by_itself_when_the_database_is_back(
    client: Client, make_product: MakeProduct
) -> None:
    make_product()
    with outage(2006):
        client.get("/")

    assert client.get("/").status_code == 200


def test_a_duplicate_that_is_a_bug_is_no_outage(
    client: Client, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.raise_request_exception = False
    make_product()

    def insert_twice(*args: object, **kwargs: object) -> None:
        Product.objects.create(slug="lamp", name="Lamp", price=1)

    monkeypatch.setattr(products, "render", insert_twice)

    assert client.get("/").status_code == 500


@pytest.mark.parametrize("headers", [{}, JSON], ids=["page", "json"])
def test_a_bug_is_answered_with_500_and_none_of_its_details(
    client: Client,
    make_product: MakeProduct,
    monkeypatch: pytest.MonkeyPatch,
    headers: dict[str, str],
) -> None:
    client.raise_request_exception = False
    make_product()

    def fail(**kwargs: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(buying, "purchase", fail)

    response = client.post("/products/lamp/buy/", headers=headers)

    assert response.status_code == 500
    assert "secret" not in text_of(response)
    assert "Your orders page shows what you own." in text_of(response)
    assert Stock.objects.get().available == 10


def test_a_changed_price_reaches_the_next_buyer_when_the_terms_are_read_again(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(price="12.50")
    client.post("/products/lamp/buy/")
    Product.objects.update(price=20)
    terms.forget()

    client.post("/products/lamp/buy/")

    assert sorted(Order.objects.values_list("unit_price", flat=True)) == [12.5, 20]
