"""Buying over HTTP: one test or more for each row of the table of answers."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, OperationalError
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from conftest import MakeProduct
from inventory import purchases, terms
from inventory.errors import InventoryError, OutcomeUnknown, StockBusy
from inventory.ledger import PurchaseRequest, Receipt
from inventory.models import CONTROL, Movement, Order, Product, Stock
from inventory.strategies import STRATEGIES
from inventory.terms import SaleTerms
from shop.views import products

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

pytestmark = pytest.mark.django_db(transaction=True)

JSON = {"Accept": "application/json"}
DEFAULT = STRATEGIES["conditional_update"]


@pytest.fixture
def visitor() -> Client:
    """A browser, to which CSRF protection applies."""
    return Client(enforce_csrf_checks=True)


def ask(client: Client, slug: str = "lamp", *, key_header: str = "", **form: object) -> Response:
    """Buy as a program does: form fields in, JSON out."""
    headers = {**JSON, **({"Idempotency-Key": key_header} if key_header else {})}
    return client.post(f"/products/{slug}/buy/", form, headers=headers)


def submit(visitor: Client, slug: str = "lamp", **changes: str) -> Response:
    """Buy as a browser does: open the page, fill its form in, send it."""
    return send_form(visitor, visitor.get(f"/products/{slug}/"), **changes)


def send_form(visitor: Client, page: Response, **changes: str) -> Response:
    """Send the form of a page just opened, with some fields changed."""
    action = re.search(r'<form method="post" action="([^"]+)"', text_of(page))
    assert action, "the page must have a form to buy with"
    return visitor.post(action[1], {**fields_of(page), **changes})


def fields_of(page: Response) -> dict[str, str]:
    found = re.findall(r'<input[^>]*? name="([^"]+)"[^>]*? value="([^"]*)"', text_of(page))
    fields = dict(found)
    assert uuid.UUID(fields["key"])
    assert fields["csrfmiddlewaretoken"]
    return fields


def text_of(response: Response) -> str:
    return response.content.decode()


def problem_of(response: Response) -> dict[str, Any]:
    """Read an RFC 9457 problem that agrees with its response."""
    assert response["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert {"title", "status", "code", "detail"} <= problem.keys()
    assert problem["status"] == response.status_code
    assert problem["title"]
    assert problem["detail"]
    return problem


def stock() -> tuple[int, int]:
    return Stock.objects.values_list("available", "version").get(product__slug="lamp")


def assert_nothing_sold(*, units: int = 10) -> None:
    assert stock() == (units, 1)
    assert not Order.objects.exists()
    assert not Movement.objects.filter(kind=Movement.Kind.SALE).exists()


def sell_nothing_and_raise(error: InventoryError) -> Callable[..., Receipt]:
    def refuse(*args: object) -> Receipt:
        raise error

    return refuse


def sell_and_lose_the_answer(request: PurchaseRequest) -> Receipt:
    """Make the sale as usual, and then not know of it."""
    type(DEFAULT).sell(DEFAULT, request)
    raise OutcomeUnknown


# Sold: 201


def test_answers_a_sale_with_201_and_exactly_five_fields(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(units=10)

    response = ask(client, quantity=3, key=uuid.uuid4())

    assert response.status_code == 201
    assert response["Content-Type"] == "application/json"
    assert "Idempotent-Replayed" not in response
    assert response.json() == {
        "order": str(Order.objects.get().reference),
        "status": "confirmed",
        "quantity": 3,
        "stock_version": 2,
        "available": 7,
    }


def test_takes_a_browser_to_its_order(visitor: Client, make_product: MakeProduct) -> None:
    make_product(units=10)

    response = submit(visitor, quantity="2")

    order = Order.objects.get()
    assert order.quantity == 2
    assert response["Location"] == f"/orders/{order.reference}/"
    page = visitor.get(response["Location"])
    assert page.status_code == 200
    assert str(order.reference) in text_of(page)


def test_takes_a_browser_to_its_order_with_303(visitor: Client, make_product: MakeProduct) -> None:
    """303 says "GET it"; what 302 means for a POST is left to the browser (RFC 9110, 15.4.4)."""
    make_product()

    assert submit(visitor).status_code == 303


def test_sells_one_unit_when_no_quantity_is_sent(client: Client, make_product: MakeProduct) -> None:
    make_product(units=10)

    response = ask(client, key=uuid.uuid4())

    assert (response.status_code, response.json()["quantity"]) == (201, 1)
    assert stock() == (9, 2)


@pytest.mark.parametrize("quantity", ["1", "7", "100"])
def test_sells_every_quantity_within_bounds(
    client: Client, make_product: MakeProduct, quantity: str
) -> None:
    make_product(units=100)

    response = ask(client, quantity=quantity, key=uuid.uuid4())

    assert (response.status_code, response.json()["quantity"]) == (201, int(quantity))


def test_makes_a_key_of_its_own_for_each_request_without_one(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(units=10)

    first, second = ask(client), ask(client)

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["order"] != second.json()["order"]
    assert len(set(Order.objects.values_list("key", flat=True))) == 2


def test_takes_the_key_from_the_header(client: Client, make_product: MakeProduct) -> None:
    make_product()
    key = uuid.uuid4()

    assert ask(client, key_header=str(key)).status_code == 201

    assert Order.objects.get().key == key


def test_prefers_the_key_in_the_header_to_the_one_in_the_form(
    client: Client, make_product: MakeProduct
) -> None:
    make_product()
    in_header, in_form = uuid.uuid4(), uuid.uuid4()

    ask(client, key_header=str(in_header), key=in_form)

    assert Order.objects.get().key == in_header


def test_sells_to_the_user_who_is_signed_in(client: Client, make_product: MakeProduct) -> None:
    make_product()
    ada = User.objects.create_user("ada")
    client.force_login(ada)

    ask(client)

    assert Order.objects.get().buyer == f"user:{ada.pk}"


def test_ignores_every_field_that_is_not_the_buyers_to_choose(
    client: Client, make_product: MakeProduct
) -> None:
    product = make_product(units=10)
    make_product("vase")
    reference = uuid.uuid4()

    response = client.post(
        "/products/lamp/buy/",
        {
            "quantity": 2,
            "price": "0.01",
            "unit_price": "0.01",
            "status": "refunded",
            "strategy": CONTROL,
            "user": "1",
            "buyer": "user:1",
            "product": "vase",
            "product_id": product.pk + 1,
            "slug": "vase",
            "reference": reference,
            "available": 1000,
            "attempts": 99,
            "created_at": "2001-01-01T00:00:00Z",
        },
        headers=JSON,
    )

    order = Order.objects.get()
    assert response.status_code == 201
    assert (order.unit_price, order.status) == (Decimal("12.50"), "confirmed")
    assert (order.strategy, order.attempts) == ("conditional_update", 1)
    assert order.buyer.startswith("guest:")
    assert order.product_id == product.pk
    assert order.reference != reference
    assert order.created_at.year > 2001
    assert stock() == (8, 2)


# The same key again: 200


def test_answers_the_same_key_with_the_same_body_and_says_so(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(units=3)
    key = uuid.uuid4()

    first = ask(client, quantity=2, key=key)
    ask(client)
    again = ask(client, quantity=2, key=key)

    assert (first.status_code, again.status_code) == (201, 200)
    assert again["Idempotent-Replayed"] == "true"
    assert again.content == first.content
    assert stock() == (0, 3), "and sold nothing for it"
    assert Order.objects.count() == 2


def test_takes_a_browser_to_the_same_order_when_it_sends_its_form_twice(
    visitor: Client, make_product: MakeProduct
) -> None:
    make_product(units=10)
    page = visitor.get("/products/lamp/")

    first, again = send_form(visitor, page), send_form(visitor, page)

    assert again["Location"] == first["Location"]
    assert stock() == (9, 2)


def test_the_same_key_of_another_guest_is_another_sale(make_product: MakeProduct) -> None:
    """A key is no password: knowing one must not show somebody else's order."""
    make_product(units=10)
    key = uuid.uuid4()

    mine, yours = ask(Client(), key=key), ask(Client(), key=key)

    assert (mine.status_code, yours.status_code) == (201, 201)
    assert mine.json()["order"] != yours.json()["order"]


@pytest.mark.parametrize(
    ("opens_in_h", "closes_in_h"), [(-2, -1), (1, 2)], ids=["closed", "put off"]
)
def test_finds_an_order_by_its_key_when_the_sale_is_no_longer_open(
    client: Client, make_product: MakeProduct, opens_in_h: int, closes_in_h: int
) -> None:
    make_product()
    key = uuid.uuid4()
    first = ask(client, key=key)
    now = timezone.now()
    Product.objects.update(
        opens_at=now + timedelta(hours=opens_in_h), closes_at=now + timedelta(hours=closes_in_h)
    )
    terms.forget()

    again = ask(client, key=key)

    assert (again.status_code, again.json()) == (200, first.json())
    assert ask(client, key=uuid.uuid4()).status_code == 409


def test_finds_an_order_by_its_key_when_its_strategy_cannot_run_any_more(
    client: Client, make_product: MakeProduct
) -> None:
    make_product()
    key = uuid.uuid4()
    first = ask(client, key=key)
    Product.objects.update(strategy="retired")
    terms.forget()

    again = ask(client, key=key)

    assert (again.status_code, again.json()) == (200, first.json())


# The same key for something else: 422


def test_refuses_a_key_that_bought_another_quantity(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(units=10)
    key = uuid.uuid4()
    ask(client, key=key)

    response = ask(client, key=key, quantity=2)

    assert response.status_code == 422
    assert problem_of(response)["code"] == "key_reused"
    assert stock() == (9, 2)


def test_refuses_a_key_that_bought_another_product(
    client: Client, make_product: MakeProduct
) -> None:
    make_product()
    make_product("vase")
    key = uuid.uuid4()
    ask(client, "vase", key=key)

    response = ask(client, key=key)

    assert response.status_code == 422
    assert problem_of(response)["code"] == "key_reused"
    assert stock() == (10, 1)


def test_offers_a_browser_a_new_key_when_its_key_is_used_up(
    visitor: Client, make_product: MakeProduct
) -> None:
    make_product(units=10)
    page = visitor.get("/products/lamp/")
    send_form(visitor, page)

    refused = send_form(visitor, page, quantity="2")

    assert refused.status_code == 422
    assert "already belongs to a different purchase" in text_of(refused)
    assert fields_of(refused)["key"] != fields_of(page)["key"]
    assert "Location" in send_form(visitor, refused)
    assert stock() == (8, 3)


# Refusals: 409


def test_refuses_more_than_is_left_and_says_how_many_are(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(units=2)

    response = ask(client, quantity=3)

    problem = problem_of(response)
    assert response.status_code == 409
    assert (problem["code"], problem["available"]) == ("sold_out", 2)
    assert "Retry-After" not in response
    assert_nothing_sold(units=2)


def test_shows_a_browser_that_it_is_sold_out_and_offers_a_fresh_key(
    visitor: Client, make_product: MakeProduct
) -> None:
    make_product(units=1)
    late = visitor.get("/products/lamp/")
    submit(visitor)

    refused = send_form(visitor, late)

    assert refused.status_code == 409
    assert "Sold out: no unit is left." in text_of(refused)
    assert fields_of(refused)["key"] != fields_of(late)["key"]
    Stock.objects.update(available=1)
    purchases._sold_out.forget()
    assert "Location" in send_form(visitor, refused), "the form must work once there is stock"


def test_refuses_before_the_sale_opens_and_says_when_it_does(
    client: Client, make_product: MakeProduct
) -> None:
    opens_at = timezone.now() + timedelta(hours=1)
    make_product(opens_at=opens_at)

    response = ask(client)

    problem = problem_of(response)
    assert response.status_code == 409
    assert problem["code"] == "not_open"
    assert problem["opens_at"] == opens_at.isoformat()
    assert_nothing_sold()


def test_refuses_after_the_sale_has_closed(client: Client, make_product: MakeProduct) -> None:
    make_product(closes_at=timezone.now() - timedelta(seconds=1))

    response = ask(client)

    assert response.status_code == 409
    assert problem_of(response)["code"] == "not_open"
    assert_nothing_sold()


@pytest.mark.parametrize(
    ("field", "hours", "sentence"),
    [
        ("opens_at", 1, "The sale has not started yet."),
        ("closes_at", -1, "The sale is over."),
    ],
)
def test_shows_a_browser_that_the_sale_is_not_open(
    visitor: Client, make_product: MakeProduct, field: str, hours: int, sentence: str
) -> None:
    make_product(**{field: timezone.now() + timedelta(hours=hours)})

    refused = submit(visitor)

    assert refused.status_code == 409
    assert sentence in text_of(refused)
    assert fields_of(refused)
    assert_nothing_sold()


def test_lets_a_refused_key_buy_later(client: Client, make_product: MakeProduct) -> None:
    make_product(units=0)
    key = uuid.uuid4()
    assert ask(client, key=key).status_code == 409
    Stock.objects.update(available=1)
    purchases._sold_out.forget()

    assert ask(client, key=key).status_code == 201


# Bad fields: 400

BAD_QUANTITIES = [
    "0",
    "-1",
    "101",
    str(2**31),
    str(2**63),
    "1.5",
    "1e3",
    "NaN",
    "true",
    "+1",
    " 1",
    "1\n",
    "1\x00",
    "0x1",
    "1_0",
    "１",
    "٣",
    "1" * 60_000,
    pytest.param("", id="empty"),
]
BAD_KEYS = [
    "not-a-uuid",
    "1",
    "a" * 256,
    "g" * 32,
    f"{uuid.uuid4()}0",
    "\x00" * 32,
    "\x1b[31m" + "1" * 27,
    "\r\nSet-Cookie: guest=eve",
    "1" * 31 + "\t",
]


def shortened(value: object) -> str:
    return repr(value)[:24]


@pytest.mark.parametrize("quantity", BAD_QUANTITIES, ids=shortened)
def test_refuses_a_bad_quantity_and_names_the_field(
    client: Client, make_product: MakeProduct, quantity: str
) -> None:
    make_product()

    response = ask(client, quantity=quantity, key=uuid.uuid4())

    problem = problem_of(response)
    assert response.status_code == 400
    assert (problem["code"], problem["field"]) == ("invalid", "quantity")
    assert_nothing_sold()


@pytest.mark.parametrize("key", BAD_KEYS, ids=shortened)
@pytest.mark.parametrize("where", ["form", "header"])
def test_refuses_a_bad_key_and_names_the_field(
    client: Client, make_product: MakeProduct, key: str, where: str
) -> None:
    make_product()

    response = ask(client, key=key) if where == "form" else ask(client, key_header=key)

    problem = problem_of(response)
    assert response.status_code == 400
    assert (problem["code"], problem["field"]) == ("invalid", "key")
    assert_nothing_sold()


@pytest.mark.parametrize("quantity", ["0", "-1", "101", "many"])
def test_shows_a_browser_which_quantities_can_be_bought(
    visitor: Client, make_product: MakeProduct, quantity: str
) -> None:
    make_product(units=10)

    refused = submit(visitor, quantity=quantity)

    assert refused.status_code == 400
    assert "Quantity must be between 1 and 100." in text_of(refused)
    assert_nothing_sold()
    assert "Location" in send_form(visitor, refused, quantity="1")


@pytest.mark.parametrize(
    "key", ["+" + "1" * 31, "1" * 15 + "_" + "1" * 16, "１" * 32], ids=shortened
)
def test_refuses_what_only_python_would_call_a_uuid(
    client: Client, make_product: MakeProduct, key: str
) -> None:
    make_product()

    assert ask(client, key=key).status_code == 400


def test_offers_a_browser_a_good_key_for_a_bad_one(
    visitor: Client, make_product: MakeProduct
) -> None:
    make_product()

    refused = submit(visitor, key="<script>alert(1)</script>")

    assert refused.status_code == 400
    assert "The key must be a UUID." in text_of(refused)
    assert "<script>" not in text_of(refused)
    assert "Location" in send_form(visitor, refused)


# Unknown product: 404


def test_answers_404_for_a_product_that_does_not_exist(client: Client) -> None:
    response = ask(client, "nothing")

    assert response.status_code == 404
    assert problem_of(response)["code"] == "not_found"


def test_shows_a_browser_a_page_for_a_product_that_does_not_exist(client: Client) -> None:
    response = client.post("/products/nothing/buy/")

    assert response.status_code == 404
    assert response["Content-Type"].startswith("text/html")
    assert "There is nothing at this address." in text_of(response)


# Busy, outcome unknown, unavailable: 503


@pytest.mark.parametrize("method", ["sell", "sell_once"])
@pytest.mark.parametrize(
    ("error", "code", "advice"),
    [
        (StockBusy(attempts=7), "busy", "nothing was sold"),
        (OutcomeUnknown(), "outcome_unknown", "send the same key again"),
    ],
)
def test_says_when_to_try_again_after_a_failure_that_may_pass(
    client: Client,
    make_product: MakeProduct,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    error: InventoryError,
    code: str,
    advice: str,
) -> None:
    make_product()
    monkeypatch.setattr(DEFAULT, method, sell_nothing_and_raise(error))

    response = ask(client)

    problem = problem_of(response)
    assert response.status_code == 503
    assert int(response["Retry-After"]) >= 1
    assert problem["code"] == code
    assert advice in problem["detail"]


def test_keeps_the_key_in_the_form_when_busy_so_that_trying_again_buys_once(
    visitor: Client, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_product(units=10)
    page = visitor.get("/products/lamp/")
    with monkeypatch.context() as crowded:
        crowded.setattr(DEFAULT, "sell", sell_nothing_and_raise(StockBusy()))
        refused = send_form(visitor, page)

    bought = send_form(visitor, refused)

    assert refused.status_code == 503
    assert int(refused["Retry-After"]) >= 1
    assert "Too many people are buying right now; nothing was sold." in text_of(refused)
    assert fields_of(refused)["key"] == fields_of(page)["key"]
    assert "Location" in bought
    assert stock() == (9, 2)


@pytest.mark.parametrize(
    "quantity",
    [
        "1",
        pytest.param("3"),
    ],
)
def test_finds_the_sale_of_an_unknown_outcome_when_the_page_is_sent_again(
    visitor: Client, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch, quantity: str
) -> None:
    make_product(units=10)
    with monkeypatch.context() as broken:
        broken.setattr(DEFAULT, "sell", sell_and_lose_the_answer)
        refused = submit(visitor, quantity=quantity)

    again = send_form(visitor, refused)

    order = Order.objects.get()
    assert refused.status_code == 503
    assert "We could not learn whether your purchase went through." in text_of(refused)
    assert again.get("Location") == f"/orders/{order.reference}/"
    assert stock() == (10 - int(quantity), 2)


def test_finds_the_sale_of_an_unknown_outcome_by_its_key(
    client: Client, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_product(units=10)
    key = uuid.uuid4()
    with monkeypatch.context() as broken:
        broken.setattr(DEFAULT, "sell", sell_and_lose_the_answer)
        assert problem_of(ask(client, key=key))["code"] == "outcome_unknown"

    again = ask(client, key=key)

    assert (again.status_code, again["Idempotent-Replayed"]) == (200, "true")
    assert again.json()["order"] == str(Order.objects.get().reference)
    assert stock() == (9, 2)


@pytest.mark.parametrize("key_in", ["header", "nowhere"])
def test_a_page_of_unknown_outcome_has_the_key_that_was_used(
    client: Client, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch, key_in: str
) -> None:
    """Whoever sent none, or sent it as a header, must not buy twice by sending the page's form."""
    make_product()
    monkeypatch.setattr(DEFAULT, "sell", sell_and_lose_the_answer)
    headers = {"Idempotency-Key": str(uuid.uuid4())} if key_in == "header" else {}

    refused = client.post("/products/lamp/buy/", headers=headers)

    assert fields_of(refused)["key"] == str(Order.objects.get().key)


def test_a_page_of_unknown_outcome_keeps_the_key_when_even_the_product_cannot_be_read(
    visitor: Client, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit's answer is lost when the database goes away, and then it stays away for a while."""
    make_product()
    page = visitor.get("/products/lamp/")

    def fail(*args: object, **kwargs: object) -> None:
        raise OperationalError(2006, "Server has gone away")

    monkeypatch.setattr(DEFAULT, "sell", sell_and_lose_the_answer)
    monkeypatch.setattr(products, "find_product", fail)

    refused = send_form(visitor, page)

    assert refused.status_code == 503
    assert fields_of(page)["key"] in text_of(refused)


def test_a_problem_of_unknown_outcome_names_the_key_that_the_server_made(
    client: Client, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is told to send the same key again must know it."""
    make_product()
    monkeypatch.setattr(DEFAULT, "sell", sell_and_lose_the_answer)

    problem = problem_of(ask(client))

    assert str(Order.objects.get().key) in json.dumps(problem)


def test_says_that_a_strategy_nobody_knows_cannot_sell(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(strategy="alchemy")

    response = ask(client)

    problem = problem_of(response)
    assert response.status_code == 503
    assert problem["code"] == "unavailable"
    assert "alchemy" in problem["detail"]
    assert_nothing_sold()


def test_says_that_a_strategy_without_its_redis_cannot_sell(
    visitor: Client, make_product: MakeProduct, settings: Settings
) -> None:
    settings.CACHES = {name: cache for name, cache in settings.CACHES.items() if name != "locks"}
    make_product(strategy="redis_lock")

    refused = submit(visitor)

    assert refused.status_code == 503
    assert "needs Redis" in text_of(refused)
    assert fields_of(refused)
    assert_nothing_sold()


# The control strategy


@pytest.mark.parametrize("is_lab", [False, True], ids=["forged name", "forged name and kind"])
def test_the_control_sells_no_product_of_the_shop_even_when_the_terms_are_forged(
    client: Client, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch, is_lab: bool
) -> None:
    make_product()
    true_terms = terms.read_terms

    def forged_terms(slug: str) -> SaleTerms:
        return replace(true_terms(slug), strategy=CONTROL, is_lab=is_lab)

    monkeypatch.setattr(purchases, "fresh_terms", lambda slug: None)
    monkeypatch.setattr(purchases, "read_terms", forged_terms)

    response = ask(client)

    assert response.status_code == 503
    assert problem_of(response)["code"] == "unavailable"
    assert_nothing_sold()


@pytest.mark.parametrize("way", ["create", "save", "update", "bulk_update"])
def test_the_database_lets_no_product_of_the_shop_name_the_control(
    make_product: MakeProduct, way: str
) -> None:
    product = make_product()
    product.strategy = CONTROL
    ways: dict[str, Callable[[], object]] = {
        "create": lambda: make_product("vase", strategy=CONTROL),
        "save": lambda: product.save(),
        "update": lambda: Product.objects.update(strategy=CONTROL),
        "bulk_update": lambda: Product.objects.bulk_update([product], ["strategy"]),
    }

    with pytest.raises(IntegrityError, match="product_control_only_in_lab"):
        ways[way]()

    assert Product.objects.get().strategy == "conditional_update"


def test_a_lab_product_that_the_control_sells_cannot_be_moved_into_the_shop(
    make_product: MakeProduct,
) -> None:
    make_product(strategy=CONTROL, is_lab=True)

    with pytest.raises(IntegrityError, match="product_control_only_in_lab"):
        Product.objects.update(is_lab=False)

    assert Product.objects.get().is_lab


# Who may ask, and how


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("application/json", True),
        ("application/json, text/html;q=0.9", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("text/html, application/json;q=0.9", False),
        ("*/*", False),
        ("image/png", False),
    ],
)
def test_answers_json_only_to_those_who_prefer_it(
    client: Client, make_product: MakeProduct, accept: str, is_json: bool
) -> None:
    make_product(units=0)

    response = client.post("/products/lamp/buy/", headers={"Accept": accept})

    assert response["Content-Type"].startswith(
        "application/problem+json" if is_json else "text/html"
    )
    assert "Accept" in response["Vary"]


def test_refuses_a_program_that_sends_no_csrf_token(
    visitor: Client, make_product: MakeProduct
) -> None:
    make_product()
    visitor.get("/products/lamp/")

    response = ask(visitor)

    assert response.status_code == 403
    assert problem_of(response)["code"] == "csrf"
    assert_nothing_sold()


def test_shows_a_browser_without_a_csrf_token_a_page(
    visitor: Client, make_product: MakeProduct
) -> None:
    make_product()
    visitor.get("/products/lamp/")

    response = visitor.post("/products/lamp/buy/", {"quantity": 1})

    assert response.status_code == 403
    assert response["Content-Type"].startswith("text/html")
    assert "Reload it and try again" in text_of(response)
    assert_nothing_sold()


def test_refuses_the_csrf_token_of_another_browser(
    visitor: Client, make_product: MakeProduct
) -> None:
    make_product()
    token = fields_of(Client(enforce_csrf_checks=True).get("/products/lamp/"))[
        "csrfmiddlewaretoken"
    ]
    visitor.get("/products/lamp/")

    response = visitor.post("/products/lamp/buy/", {"csrfmiddlewaretoken": token})

    assert response.status_code == 403
    assert_nothing_sold()


def test_takes_the_csrf_token_of_the_page_as_a_header(
    visitor: Client, make_product: MakeProduct
) -> None:
    """This is how the load generator buys."""
    make_product()
    token = fields_of(visitor.get("/products/lamp/"))["csrfmiddlewaretoken"]

    response = visitor.post("/products/lamp/buy/", headers={**JSON, "X-CSRFToken": token})

    assert response.status_code == 201


def test_sells_nothing_for_a_body_that_is_no_form(
    client: Client, make_product: MakeProduct
) -> None:
    """Nobody who asks for three in a body of JSON means one, under another key."""
    make_product()

    response = client.post(
        "/products/lamp/buy/",
        {"quantity": 3, "key": str(uuid.uuid4())},
        content_type="application/json",
        headers=JSON,
    )

    assert response.status_code in {400, 415}
    assert_nothing_sold()


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
@pytest.mark.parametrize("headers", [JSON, {}], ids=["json", "page"])
def test_buys_by_post_only(
    client: Client, make_product: MakeProduct, method: str, headers: dict[str, str]
) -> None:
    make_product()

    response = getattr(client, method)("/products/lamp/buy/?quantity=1", headers=headers)

    assert response.status_code == 405
    assert response["Allow"] == "GET, HEAD, POST"
    assert_nothing_sold()


@pytest.mark.parametrize("method", ["get", "head"])
def test_takes_a_browser_that_only_looks_there_to_the_product(
    client: Client, make_product: MakeProduct, method: str
) -> None:
    make_product()

    response = getattr(client, method)("/products/lamp/buy/?quantity=1")

    assert (response.status_code, response["Location"]) == (303, "/products/lamp/")
    assert_nothing_sold()
