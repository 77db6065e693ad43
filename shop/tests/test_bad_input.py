"""What nobody should send: fields, keys and ids that are wrong, doubled, foreign or forged."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest
from django.test import Client
from hypothesis import HealthCheck, given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from conftest import MakeProduct
from inventory import terms
from inventory.models import Movement, Order, Product, Stock
from shop import serving

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

pytestmark = pytest.mark.django_db

JSON = {"Accept": "application/json"}
FORM = "application/x-www-form-urlencoded"
quickly = bounded(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
def _long_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms, "TERMS_CACHE_S", 60)


def send(
    client: Client, body: bytes | str, address: str = "/products/lamp/buy/", **headers: str
) -> Response:
    """Send these very bytes as the form."""
    return client.generic(
        "POST", address, body, FORM, CONTENT_TYPE=FORM, headers={**JSON, **headers}
    )


def assert_nothing_sold(*, units: int = 10) -> None:
    assert Stock.objects.values_list("available", "version").get(product__slug="lamp") == (units, 1)
    assert not Order.objects.exists()
    assert not Movement.objects.filter(kind=Movement.Kind.SALE).exists()


def assert_refused(response: Response, *, field: str) -> None:
    assert response.status_code == 400, response.content
    assert response["Content-Type"] == "application/problem+json"
    assert (response.json()["code"], response.json()["field"]) == ("invalid", field)


# Quantities (B-02)

NO_QUANTITIES = st.one_of(
    st.text(max_size=20),
    st.integers().map(str),
    st.floats().map(str),
    st.decimals().map(str),
    st.from_regex(r"[0-9]{1,3}([eE][0-9]|\.0|_0|%| |\n)", fullmatch=True),
    st.text("0123456789", min_size=4, max_size=40),
    st.text("٠١٢٣１２３४५", min_size=1, max_size=3),
    st.sampled_from(["true", "null", "[]", "{}", "[1]", '{"a":1}', "NaN", "Infinity", "1e3", "−1"]),
).filter(lambda text: not re.fullmatch(r"0*([1-9][0-9]?|100)", text, re.ASCII))


@given(quantity=NO_QUANTITIES)
@quickly
def test_no_quantity_but_1_to_100_is_taken_for_one(quantity: str, client: Client) -> None:
    """Whether the product exists is asked later, so none is needed here."""
    assert_refused(send(client, urlencode({"quantity": quantity})), field="quantity")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("quantity=1&quantity=99", "quantity"),
        ("quantity=1&quantity=1", "quantity"),
        ("quantity=99&key=&quantity=1", "quantity"),
        (f"key={uuid.uuid4()}&key={uuid.uuid4()}", "key"),
        ("quantity=1&QUANTITY=1&quantity=", "quantity"),
        ("quantity=%31&quantit%79=2", "quantity"),
    ],
)
def test_a_field_sent_twice_is_refused_rather_than_chosen_from(
    client: Client, make_product: MakeProduct, body: str, field: str
) -> None:
    make_product()

    assert_refused(send(client, body), field=field)

    assert_nothing_sold()


def test_a_field_sent_twice_in_parts_is_refused_too(
    client: Client, make_product: MakeProduct
) -> None:
    make_product()

    response = client.post("/products/lamp/buy/", {"quantity": ["1", "2"]}, headers=JSON)

    assert_refused(response, field="quantity")
    assert_nothing_sold()


@pytest.mark.parametrize("query", ["quantity=99", "quantity=", f"key={uuid.uuid4()}"])
@pytest.mark.parametrize("body", ["quantity=1", ""])
def test_a_field_in_the_address_is_refused_rather_than_overlooked(
    client: Client, make_product: MakeProduct, query: str, body: str
) -> None:
    make_product()

    response = send(client, body, f"/products/lamp/buy/?{query}")

    assert_refused(response, field=query.split("=")[0])
    assert_nothing_sold()


def test_other_words_in_the_address_do_no_harm(client: Client, make_product: MakeProduct) -> None:
    make_product()

    assert send(client, "", "/products/lamp/buy/?utm_source=mail").status_code == 201


def test_a_file_is_not_taken_for_a_field_that_is_absent(
    client: Client, make_product: MakeProduct
) -> None:
    make_product()
    parts = (
        b'--x\r\nContent-Disposition: form-data; name="quantity"; filename="q"\r\n\r\n3\r\n--x--'
    )

    response = client.post(
        "/products/lamp/buy/", parts, content_type="multipart/form-data; boundary=x", headers=JSON
    )

    assert_refused(response, field="body")
    assert_nothing_sold()


# Keys (B-04)


@pytest.mark.parametrize("key", ["", '""', " ", "a" * 256, "\x7f" * 36, "ключ", "null", "%00"])
def test_a_key_in_the_header_that_is_none_is_refused(
    client: Client, make_product: MakeProduct, key: str
) -> None:
    """Whoever sends an empty key means to buy once; a key made here would buy at each try."""
    make_product()

    assert_refused(send(client, "quantity=1", **{"Idempotency-Key": key}), field="key")

    assert_nothing_sold()


@given(key=st.text(max_size=40))
@quickly
def test_no_key_but_a_uuid_is_taken_for_one(key: str, client: Client) -> None:
    assert_refused(send(client, urlencode({"key": key})), field="key")


@pytest.mark.parametrize("writing", ["{}", '"{}"'])
@pytest.mark.parametrize("change", [str, lambda key: str(key).upper(), lambda key: key.hex])
def test_however_a_key_is_written_it_is_the_same(
    client: Client, make_product: MakeProduct, writing: str, change: Any
) -> None:
    make_product()
    key = uuid.uuid4()
    first = send(client, f"key={key}")

    again = send(client, "", **{"Idempotency-Key": writing.format(change(key))})

    assert (again.status_code, again.json()) == (200, first.json())


# Ids (B-03)

FOREIGN = "00000000-0000-4000-8000-000000000000"
PLACES = ["/orders/{}/", "/products/lamp/tickets/{}/"]


@pytest.fixture
def adas_order(make_product: MakeProduct) -> str:
    make_product()
    order: str = send(Client(), "").json()["order"]
    return order


@pytest.mark.parametrize("headers", [JSON, {}], ids=["json", "page"])
@pytest.mark.parametrize("place", PLACES)
def test_anothers_order_is_answered_exactly_as_one_that_does_not_exist(
    adas_order: str, client: Client, place: str, headers: dict[str, str]
) -> None:
    client.get("/")

    foreign = client.get(place.format(adas_order), headers=headers)
    absent = client.get(place.format(FOREIGN), headers=headers)

    assert (foreign.status_code, absent.status_code) == (404, 404)
    assert without_its_own(foreign, adas_order) == without_its_own(absent, FOREIGN)
    assert foreign.headers == absent.headers


def without_its_own(response: Any, reference: str) -> str:
    """What is told, but for the token and the address that the page itself was asked for by."""
    told = response.content.decode().replace(reference, "")
    return re.sub(r'name="csrfmiddlewaretoken" value="[^"]+"', "", told)


@pytest.mark.parametrize(
    "trick",
    [
        "{0}%00",
        "%00{0}",
        "..%2f{0}",
        "./{0}",
        "{0}/..",
        "{0}%0a",
        "{{{0}}}",
        "urn:uuid:{0}",
        "{0}{0}",
        "{0};a=b",
        "9" * 2000,
        "-1",
        "0",
        "%ff%fe",
    ],
)
def test_no_trick_with_an_id_finds_anything(client: Client, adas_order: str, trick: str) -> None:
    for place in PLACES:
        response = client.get(place.format(trick.format(adas_order)), headers=JSON)

        assert response.status_code == 404
        assert response.json()["code"] == "not_found"


def test_an_id_is_found_as_it_was_given_and_in_no_other_case(make_product: MakeProduct) -> None:
    make_product()
    client = Client()
    order = ""
    while not re.search("[a-f]", order):
        order = send(client, "").json()["order"]

    assert client.get(f"/orders/{order}/").status_code == 200
    assert client.get(f"/orders/{order.upper()}/").status_code == 404


@pytest.mark.parametrize("slug", ["LAMP", "Lamp", "lamP"])
def test_a_slug_in_another_case_names_no_product(
    client: Client, make_product: MakeProduct, slug: str
) -> None:
    """MariaDB compares without regard to case; each way of writing would be remembered apart."""
    make_product()

    bought = send(client, "", f"/products/{slug}/buy/")
    looked = [client.get(f"/products/{slug}/{place}", headers=JSON) for place in ["", "stock/"]]

    assert [response.status_code for response in [bought, *looked]] == [404, 404, 404]
    assert terms.fresh_terms(slug) is None
    assert_nothing_sold()


@pytest.mark.parametrize(
    "slug", ["vase", "x" * 5000, "lamp%00", "lamp%2f..%2flamp", "..", "l%E0mp"]
)
def test_a_slug_of_no_product_buys_nothing(
    client: Client, make_product: MakeProduct, slug: str
) -> None:
    make_product()

    response = send(client, "", f"/products/{slug}/buy/")

    assert response.status_code == 404
    assert response.json()["code"] == "not_found"
    assert_nothing_sold()


def test_a_product_that_was_deleted_is_as_one_that_never_was(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(units=0)
    Stock.objects.all().delete()
    Movement.objects.all().delete()
    Product.objects.all().delete()
    terms.forget()

    for address in ["/products/lamp/", "/products/lamp/stock/"]:
        deleted = client.get(address, headers=JSON)
        never = client.get(address.replace("lamp", "vase"), headers=JSON)
        assert (deleted.status_code, deleted.json()) == (404, never.json())
    assert send(client, "").status_code == 404


# Steps skipped (B-08); the window's own are in test_buy.py


def test_a_form_of_before_the_cookie_was_lost_buys_for_the_guest_who_sends_it(
    make_product: MakeProduct,
) -> None:
    """The form names no buyer: the cookie does, and a new one is given where it is gone."""
    make_product()
    browser = Client(enforce_csrf_checks=True)
    page = browser.get("/products/lamp/").content.decode()
    fields = dict(re.findall(r'<input[^>]*? name="([^"]+)"[^>]*? value="([^"]*)"', page))
    first = browser.cookies.pop("guest").value

    bought = browser.post("/products/lamp/buy/", fields, headers=JSON)

    assert bought.status_code == 201
    assert browser.cookies["guest"].value != first


# Bodies that are no forms (B-05); what a socket can do wrong is in test_sockets.py

BODIES = {
    "json": ("application/json", b'{"quantity": 3}'),
    "deep json": ("application/json", b"[" * 10_000 + b"]" * 10_000),
    "text": ("text/plain", b"quantity=3"),
    "xml": ("text/xml", b"<quantity>3</quantity>"),
    "no type": ("", b"quantity=3"),
    "a type with a tail": ("application/x-www-form-urlencoded-not", b"quantity=3"),
    "invalid utf-8": (FORM, b"quantity=\xff\xfe"),
    "escaped invalid utf-8": (FORM, b"quantity=%ff"),
    "utf-16": (f"{FORM}; charset=utf-16", "quantity=3".encode("utf-16")),
    "5,000 fields": (FORM, b"&".join(b"a%d=1" % number for number in range(5000))),
    "parts without a boundary": ("multipart/form-data", b"quantity=3"),
    "parts of another boundary": ("multipart/form-data; boundary=a", b"--b\r\n\r\n--b--"),
    "a part cut off": (
        "multipart/form-data; boundary=a",
        b'--a\r\nContent-Disposition: form-data; name="quantity"\r\n\r\n3',
    ),
    "100 files": (
        "multipart/form-data; boundary=a",
        b'--a\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n1\r\n' * 101
        + b"--a--\r\n",
    ),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("headers", [JSON, {}], ids=["json", "page"])
def test_no_body_but_a_form_buys_anything(
    client: Client, make_product: MakeProduct, name: str, headers: dict[str, str]
) -> None:
    make_product()
    content_type, body = BODIES[name]

    response = client.generic("POST", "/products/lamp/buy/", body, content_type, headers=headers)

    assert 400 <= response.status_code < 500, response.content
    kind = "application/problem+json" if headers else "text/html"
    assert response["Content-Type"].startswith(kind)
    assert_nothing_sold()


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Content-Encoding": "gzip"}, 415, "encoded"),
        ({"Content-Encoding": "identity"}, 415, "encoded"),
        ({"Transfer-Encoding": "chunked"}, 411, "length_required"),
    ],
)
@pytest.mark.parametrize("accept", [JSON, {}], ids=["json", "page"])
def test_a_body_that_cannot_be_read_is_not_taken_for_an_empty_one(
    client: Client,
    make_product: MakeProduct,
    headers: dict[str, str],
    status: int,
    code: str,
    accept: dict[str, str],
) -> None:
    make_product()

    response = client.post(
        "/products/lamp/buy/", b"quantity=3", content_type=FORM, headers={**headers, **accept}
    )

    assert response.status_code == status
    if accept:
        assert response.json()["code"] == code
    assert_nothing_sold()


@pytest.mark.parametrize(
    ("address", "size", "status"),
    [
        ("/products/lamp/buy/", 64 * 1024 + 1, 413),
        ("/", 64 * 1024 + 1, 413),
        ("/admin/login/", 64 * 1024 + 1, 200),
        ("/admin/login/", 5 * 1024 * 1024 + 1, 413),
    ],
)
def test_a_long_body_is_for_the_operator_only_and_has_its_bound_there(
    client: Client, make_product: MakeProduct, address: str, size: int, status: int
) -> None:
    make_product()

    response = client.post(address, b"a=" + b"x" * (size - 2), content_type=FORM, headers=JSON)

    assert response.status_code == status
    assert_nothing_sold()


def test_under_asgi_no_more_is_taken_in_than_is_allowed() -> None:
    """What the loop has taken in is on its disk, long before anybody may refuse it."""
    pieces = 0

    async def receive() -> dict[str, Any]:
        nonlocal pieces
        pieces += 1
        return {"type": "http.request", "body": b"a" * 1000, "more_body": pieces < 1000}

    with BytesIO() as body:
        asyncio.run(serving._receive(body, receive, limit=5000))

        assert pieces == 6
        assert (body.tell(), len(body.read())) == (0, 6000), "one more than allowed tells it"


# What is not the client's to say (B-07)

FORGED = {
    "price": "0.01",
    "unit_price": "0",
    "total": "0",
    "currency": "XTS",
    "strategy": "unguarded",
    "is_lab": "true",
    "status": "paid",
    "expires_at": "2999-01-01",
    "hold_minutes": "9999",
    "limit": "1000",
    "limit_per_buyer": "1000",
    "buyer": "user:1",
    "user": "1",
    "guest": "eve",
    "opens_at": "2001-01-01",
    "closes_at": "2999-01-01",
    "available": "1000",
    "version": "0",
    "reference": FOREIGN,
    "__proto__": "x",
    "product": "vase",
}


def test_what_is_not_the_buyers_to_say_is_ignored(make_product: MakeProduct) -> None:
    product = make_product(units=5, limit_per_buyer=2)
    client = Client()

    sold = send(client, urlencode({**FORGED, "quantity": 2}))
    over = send(client, urlencode({**FORGED, "quantity": 1}))

    order = Order.objects.get()
    assert (sold.status_code, over.status_code) == (201, 409)
    assert over.json()["code"] == "limit_reached"
    assert (order.unit_price, order.quantity, order.status) == (product.price, 2, "confirmed")
    assert (order.product_id, order.strategy) == (product.pk, product.strategy)
    assert order.expires_at is None
    assert str(order.reference) != FOREIGN
    assert order.buyer.startswith("guest:")
    assert Stock.objects.get(product=product).available == 3


@pytest.mark.parametrize(
    "header",
    ["X-Forwarded-User", "Remote-User", "X-User", "X-HTTP-Method-Override", "X-Original-URL"],
)
def test_no_header_makes_a_client_somebody_else(
    client: Client, make_product: MakeProduct, header: str
) -> None:
    make_product()

    send(client, "", **{header: "user:1"})

    assert Order.objects.get().buyer.startswith("guest:")


# Methods

METHODS = ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]
LOOKED_AT = [
    "/",
    "/products/lamp/",
    "/products/lamp/stock/",
    f"/products/lamp/tickets/{FOREIGN}/",
    "/orders/",
    f"/orders/{FOREIGN}/",
    "/healthz",
    "/readyz",
    "/openapi.json",
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("headers", [JSON, {}], ids=["json", "page"])
def test_says_which_methods_an_address_knows(
    client: Client, method: str, headers: dict[str, str]
) -> None:
    known = {**dict.fromkeys(LOOKED_AT, "GET, HEAD"), "/products/lamp/buy/": "GET, HEAD, POST"}

    for address, allowed in known.items():
        response = client.generic(method, address, headers=headers)

        assert (response.status_code, response["Allow"]) == (405, allowed), address
        if headers:
            assert response["Content-Type"] == "application/problem+json"
            problem = json.loads(response.content)
            assert (problem["status"], problem["code"]) == (405, "method_not_allowed")
        else:
            assert "This address cannot be used in this way." in response.content.decode()


@pytest.mark.parametrize("address", ["/products/lamp/buy/", "/healthz"])
def test_looks_for_the_token_before_the_method(address: str) -> None:
    browser = Client(enforce_csrf_checks=True)

    assert browser.put(address, headers=JSON).status_code == 403


@pytest.mark.parametrize("address", [quote("/産品/"), "/%00", "/%2e%2e/", "/\\", "/products//"])
def test_an_odd_address_is_not_found(client: Client, address: str) -> None:
    response = client.get(address, headers=JSON)

    assert response.status_code == 404
    assert response.json()["code"] == "not_found"


@pytest.mark.parametrize("version", "0123456789abcdef")
def test_a_key_that_a_database_cannot_keep_is_refused_and_any_other_is_kept(
    client: Client, make_product: MakeProduct, version: str
) -> None:
    make_product(units=100)

    for ninth in ("00", "01", "4b", "7f", "80", "81", "bf", "ff"):
        key = f"3a74f94b-9234-{version}294-{ninth}6a-0f31a164b477"
        response = client.post("/products/lamp/buy/", {"key": key}, headers=JSON)

        cannot_be_kept = version in "89abcdef" and "01" <= ninth <= "80"
        assert response.status_code == (400 if cannot_be_kept else 201), key
        if cannot_be_kept:
            assert response.json()["field"] == "key"
