"""The ticket of a purchase in the queue: its address, and what it becomes."""

from __future__ import annotations

import re
import socket
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client
from django_redis import get_redis_connection
from pytest_django import Settings

from conftest import MakeProduct, drain
from inventory import adjustments, counter, ledger, terms
from inventory.models import Order, Product

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

pytestmark = [pytest.mark.redis, pytest.mark.django_db(transaction=True)]

JSON = {"Accept": "application/json"}
LOST = "We know no such ticket. If you were given it, it was lost before it was sold"


@pytest.fixture
def browser() -> Client:
    """A browser, to which CSRF protection applies."""
    return Client(enforce_csrf_checks=True)


@pytest.fixture
def product(make_product: MakeProduct) -> Product:
    return make_product(units=10, strategy="redis_counter")


def ask(client: Client, **form: object) -> Response:
    """Buy as a program does: form fields in, JSON out; the server makes a key if none is given."""
    return client.post("/products/lamp/buy/", form, headers=JSON)


def submit(browser: Client, **changes: str) -> Response:
    """Buy as a browser does: open the page, fill its form in, send it."""
    fields = fields_of(browser.get("/products/lamp/"))
    return browser.post("/products/lamp/buy/", {**fields, **changes})


def fields_of(page: Response) -> dict[str, str]:
    return dict(re.findall(r'<input[^>]*? name="([^"]+)"[^>]*? value="([^"]*)"', text_of(page)))


def look(client: Client, ticket: Response | str, **headers: str) -> Response:
    """Open the ticket's address as a program does."""
    address = ticket if isinstance(ticket, str) else ticket["Location"]
    return client.get(address, headers={**JSON, **headers})


def text_of(response: Response) -> str:
    return response.content.decode()


def problem_of(response: Response) -> dict[str, Any]:
    assert response["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == response.status_code
    return problem


def say(product: Product, left: int) -> None:
    """Make the counter say that so many are left."""
    get_redis_connection("locks").hset(f"counter:{{{product.pk}}}", "left", left)


def lose_everything(product: Product) -> None:
    """Forget the product's counter, queue and tickets, as a Redis without its data does."""
    redis = get_redis_connection("locks")
    for key in redis.scan_iter(f"counter:{{{product.pk}}}*"):
        redis.delete(key)


def cut_redis(settings: Settings, port: int) -> None:
    locks = {**settings.CACHES["locks"], "LOCATION": f"redis://127.0.0.1:{port}/1"}
    settings.CACHES = {**settings.CACHES, "locks": locks}


# Accepted: 202


def test_answers_an_accepted_purchase_with_202_and_the_tickets_address(
    client: Client, product: Product
) -> None:
    response = ask(client, quantity=3)

    assert response.status_code == 202
    assert response["Content-Type"] == "application/json"
    assert "Idempotent-Replayed" not in response
    body = response.json()
    assert response["Location"] == f"/products/lamp/tickets/{body['order']}/"
    assert body == {
        "order": body["order"],
        "status": "accepted",
        "quantity": 3,
        "stock_version": None,
        "available": 7,
    }
    assert not Order.objects.exists()


def test_echoes_the_key_of_an_accepted_purchase(client: Client, product: Product) -> None:
    key = uuid.uuid4()

    assert ask(client, key=key)["Idempotency-Key"] == str(key)
    assert ask(client)["Idempotency-Key"] != str(key)


def test_the_ticket_says_accepted_until_the_sale_is_committed(
    client: Client, product: Product
) -> None:
    ticket = ask(client, quantity=2)

    waiting = look(client, ticket)

    assert waiting.status_code == 202
    assert waiting["Location"] == ticket["Location"]
    assert waiting.json() == {**ticket.json(), "available": None}
    assert look(client, ticket).json() == waiting.json(), "looking changes nothing"


def test_the_ticket_becomes_the_order_under_the_same_name(client: Client, product: Product) -> None:
    ticket = ask(client, quantity=2)
    drain(product)

    sold = look(client, ticket)

    order = Order.objects.get()
    assert sold.status_code == 200
    assert "Location" not in sold
    assert sold.json() == {
        "order": ticket.json()["order"],
        "status": "confirmed",
        "quantity": 2,
        "stock_version": 2,
        "available": 8,
    }
    assert str(order.reference) == ticket.json()["order"]
    assert client.get(f"/orders/{order.reference}/").status_code == 200


def test_answers_the_same_key_with_the_same_ticket_and_says_so(
    client: Client, product: Product
) -> None:
    key = uuid.uuid4()

    first, again = ask(client, key=key), ask(client, key=key)

    assert (again.status_code, again["Location"]) == (202, first["Location"])
    assert again["Idempotent-Replayed"] == "true"
    assert again.json()["order"] == first.json()["order"]
    assert counter.on_their_way(product.pk) == 1


def test_answers_the_same_key_with_the_order_once_it_is_sold(
    client: Client, product: Product
) -> None:
    key = uuid.uuid4()
    ticket = ask(client, key=key)
    drain(product)

    again = ask(client, key=key)

    assert (again.status_code, again["Idempotent-Replayed"]) == (200, "true")
    assert (again.json()["order"], again.json()["status"]) == (ticket.json()["order"], "confirmed")


@pytest.mark.parametrize("sold", [False, True], ids=["waiting", "sold"])
def test_refuses_the_key_of_a_ticket_for_another_quantity(
    client: Client, product: Product, sold: bool
) -> None:
    key = uuid.uuid4()
    ask(client, key=key)
    if sold:
        drain(product)

    response = ask(client, key=key, quantity=2)

    assert response.status_code == 422
    assert problem_of(response)["code"] == "key_reused"


def test_the_same_key_of_another_guest_is_another_ticket(product: Product) -> None:
    key = uuid.uuid4()

    mine, yours = ask(Client(), key=key), ask(Client(), key=key)

    assert (mine.status_code, yours.status_code) == (202, 202)
    assert mine["Location"] != yours["Location"]


# Refused after all


def test_the_ticket_of_a_unit_that_never_existed_says_sold_out(
    client: Client, make_product: MakeProduct
) -> None:
    product = make_product(units=1, strategy="redis_counter")
    sold = ask(client)
    say(product, 5)
    refused = ask(client)
    drain(product)

    response = look(client, refused)

    assert look(client, sold).status_code == 200
    assert response.status_code == 409
    assert problem_of(response)["code"] == "sold_out"
    assert Order.objects.count() == 1


def test_the_ticket_over_the_limit_says_limit_reached_and_which(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(units=10, limit_per_buyer=2)
    assert ask(client, quantity=2).status_code == 201
    Product.objects.update(strategy="redis_counter")
    terms.forget()
    ticket = ask(client)
    assert ticket.status_code == 202
    drain(Product.objects.get())

    response = look(client, ticket)

    problem = problem_of(response)
    assert response.status_code == 409
    assert (problem["code"], problem["limit"]) == ("limit_reached", 2)


def test_the_ticket_of_a_used_key_says_key_reused(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(units=10)
    key = uuid.uuid4()
    assert ask(client, key=key, quantity=2).status_code == 201
    Product.objects.update(strategy="redis_counter")
    terms.forget()
    ticket = ask(client, key=key)
    drain(Product.objects.get())

    response = look(client, ticket)

    assert response.status_code == 422
    assert problem_of(response)["code"] == "key_reused"


def test_the_ticket_of_a_key_that_had_its_order_leads_to_that_order(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(units=10)
    key = uuid.uuid4()
    earlier = ask(client, key=key)
    Product.objects.update(strategy="redis_counter")
    terms.forget()
    ticket = ask(client, key=key)
    drain(Product.objects.get())

    assert ticket.status_code == 202
    assert look(client, ticket).json() == earlier.json()
    page = client.get(ticket["Location"])
    assert (page.status_code, page["Location"]) == (303, f"/orders/{earlier.json()['order']}/")


def test_a_refusal_by_the_counter_needs_no_ticket(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(units=2, strategy="redis_counter", limit_per_buyer=1)
    assert ask(client).status_code == 202

    limit = ask(client)
    sold_out = ask(Client(), quantity=5)

    assert (limit.status_code, problem_of(limit)["code"]) == (409, "limit_reached")
    assert (sold_out.status_code, problem_of(sold_out)["code"]) == (409, "sold_out")
    assert problem_of(sold_out)["available"] == 1
    assert "Location" not in limit
    assert "Location" not in sold_out


def test_never_says_that_less_than_nothing_is_left(client: Client, product: Product) -> None:
    ask(client, quantity=8)
    adjustments.adjust(
        product_id=product.pk, delta=-5, kind=ledger.Movement.Kind.CORRECTION, reason="", actor="op"
    )

    assert problem_of(ask(client))["available"] == 0


# Somebody else's, and unknown ones


@pytest.mark.parametrize("sold", [False, True], ids=["waiting", "sold"])
def test_another_buyers_ticket_is_not_found(client: Client, product: Product, sold: bool) -> None:
    ticket = ask(client)
    if sold:
        drain(product)

    stranger = Client()
    assert ask(stranger).status_code == 202

    response = look(stranger, ticket)
    assert response.status_code == 404
    assert problem_of(response)["code"] == "ticket_not_found"
    assert stranger.get(ticket["Location"]).status_code == 404
    assert look(client, ticket).status_code == (200 if sold else 202)


def test_another_buyers_refused_ticket_is_not_found(
    client: Client, make_product: MakeProduct
) -> None:
    product = make_product(units=1, strategy="redis_counter")
    ask(client)
    say(product, 5)
    refused = ask(client)
    drain(product)

    assert look(client, refused).status_code == 409
    assert look(Client(), refused).status_code == 404


@pytest.mark.parametrize("known", [False, True], ids=["never given", "lost"])
def test_an_unknown_ticket_says_that_nothing_was_bought_with_it(
    client: Client, browser: Client, product: Product, known: bool
) -> None:
    address = f"/products/lamp/tickets/{uuid.uuid4()}/"
    if known:
        address = ask(client)["Location"]
        lose_everything(product)

    response = look(client, address)
    page = client.get(address)

    assert (response.status_code, page.status_code) == (404, 404)
    assert problem_of(response)["code"] == "ticket_not_found"
    assert problem_of(response)["detail"].startswith(LOST)
    assert "nothing was bought with it. Please buy again" in text_of(page)
    assert page["Content-Type"].startswith("text/html")
    assert "<h1>No such ticket</h1>" in text_of(page)
    assert 'http-equiv="refresh"' not in text_of(page), "it would never be found"


@pytest.mark.parametrize("reference", ["1", "no-uuid", "../orders"])
def test_an_address_that_names_no_ticket_is_not_found(client: Client, reference: str) -> None:
    assert client.get(f"/products/lamp/tickets/{reference}/").status_code == 404


def test_a_ticket_of_a_product_that_does_not_exist_is_not_found(
    client: Client, product: Product
) -> None:
    ticket = ask(client)["Location"]

    response = look(client, ticket.replace("lamp", "vase"))

    assert response.status_code == 404
    assert client.get(ticket.replace("lamp", "vase")).status_code == 404


def test_a_ticket_under_another_product_is_not_found(
    client: Client, product: Product, make_product: MakeProduct
) -> None:
    make_product("vase", strategy="redis_counter")
    ticket = ask(client)["Location"]

    assert look(client, ticket.replace("lamp", "vase")).status_code == 404


# A browser


def test_leads_a_browser_to_the_ticket_and_from_there_to_the_order(
    browser: Client, product: Product
) -> None:
    accepted = submit(browser, quantity="2")
    assert accepted.status_code == 303

    waiting = browser.get(accepted["Location"])
    drain(product)
    sold = browser.get(accepted["Location"])

    assert waiting.status_code == 202
    assert waiting["Content-Type"].startswith("text/html")
    order = Order.objects.get()
    assert (sold.status_code, sold["Location"]) == (303, f"/orders/{order.reference}/")
    page = browser.get(sold["Location"])
    assert page.status_code == 200
    assert str(order.reference) in text_of(page)


def test_the_tickets_page_looks_again_every_second_by_itself(
    browser: Client, product: Product
) -> None:
    """Without a script; and at the address it has, which a bookmark keeps."""
    address = submit(browser, quantity="2")["Location"]

    page = text_of(browser.get(address))

    head = page.split("</head>")[0]
    assert re.search(r'<meta http-equiv="refresh" content="1">', head)
    assert "Your purchase of 2 was accepted" in page
    assert f'href="{address}"' in page
    assert 'role="status"' in page
    assert "<form" not in page.split("<main")[1], "there is nothing to send twice"


def test_no_other_page_reloads_itself(browser: Client, product: Product) -> None:
    address = submit(browser)["Location"]
    drain(product)
    order = browser.get(address)["Location"]

    for page in ("/", "/products/lamp/", "/orders/", order):
        assert 'http-equiv="refresh"' not in text_of(browser.get(page))


def test_sends_a_browser_that_sends_its_form_twice_to_the_same_ticket(
    browser: Client, product: Product
) -> None:
    fields = fields_of(browser.get("/products/lamp/"))

    first, again = (browser.post("/products/lamp/buy/", fields) for _ in range(2))

    assert (again.status_code, again["Location"]) == (303, first["Location"])
    assert counter.on_their_way(product.pk) == 1


def test_shows_a_browser_the_refusal_and_a_form_with_a_fresh_key(
    browser: Client, make_product: MakeProduct
) -> None:
    product = make_product(units=1, strategy="redis_counter")
    submit(browser)
    say(product, 5)
    late = fields_of(browser.get("/products/lamp/"))
    address = browser.post("/products/lamp/buy/", late)["Location"]
    drain(product)
    adjustments.adjust(
        product_id=product.pk, delta=3, kind=ledger.Movement.Kind.RESTOCK, reason="", actor="op"
    )

    page = browser.get(address)

    assert page.status_code == 409
    assert "Sold out: no unit is left." in text_of(page)
    assert 'http-equiv="refresh"' not in text_of(page), "a refusal is final"
    assert fields_of(page)["key"] not in ("", late["key"])


def test_the_ticket_is_no_order_yet(browser: Client, product: Product) -> None:
    address = submit(browser)["Location"]
    reference = address.rstrip("/").rsplit("/", 1)[1]

    assert browser.get(f"/orders/{reference}/").status_code == 404
    assert reference not in text_of(browser.get("/orders/"))


# How it may be asked for


def test_answers_head_as_it_answers_get(client: Client, product: Product) -> None:
    address = ask(client)["Location"]

    for headers in (JSON, {"Accept": "text/html"}):
        got = client.get(address, headers=headers)
        head = client.head(address, headers=headers)
        assert (head.status_code, head.content) == (202, b"")
        assert head["Content-Type"] == got["Content-Type"]
    drain(product)
    assert client.head(address, headers=JSON).status_code == 200
    assert client.head(address).status_code == 303


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_a_ticket_is_only_looked_at(client: Client, product: Product, method: str) -> None:
    address = ask(client)["Location"]

    response = getattr(client, method)(address)

    assert response.status_code == 405
    assert set(response["Allow"].split(", ")) == {"GET", "HEAD"}
    assert look(client, address).status_code == 202


# Without Redis


def test_the_outcome_is_unknown_without_redis_and_the_key_is_told(
    client: Client, product: Product, settings: Settings
) -> None:
    key = uuid.uuid4()
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        cut_redis(settings, nobody_listens.getsockname()[1])

        given, made = ask(client, key=key), ask(client)

    for response in (given, made):
        problem = problem_of(response)
        assert response.status_code == 503
        assert (problem["code"], problem["key"]) == ("outcome_unknown", response["Idempotency-Key"])
        assert int(response["Retry-After"]) >= 1
    assert given["Idempotency-Key"] == str(key)
    assert uuid.UUID(made["Idempotency-Key"]) != key
    assert not Order.objects.exists()


def test_a_browser_may_send_the_same_key_again_once_redis_is_back(
    browser: Client, product: Product, settings: Settings
) -> None:
    caches_before = settings.CACHES
    fields = fields_of(browser.get("/products/lamp/"))
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        cut_redis(settings, nobody_listens.getsockname()[1])
        page = browser.post("/products/lamp/buy/", fields)
    settings.CACHES = caches_before

    assert page.status_code == 503
    assert fields_of(page)["key"] == fields["key"]
    again = browser.post("/products/lamp/buy/", {**fields, **fields_of(page)})
    assert again.status_code == 303
    assert "/tickets/" in again["Location"]


def test_a_ticket_cannot_be_looked_up_without_redis_but_an_order_can(
    client: Client, product: Product, settings: Settings
) -> None:
    sold = ask(client)
    drain(product)
    waiting = ask(client)
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        cut_redis(settings, nobody_listens.getsockname()[1])

        order, unknown = look(client, sold), look(client, waiting)

    assert order.status_code == 200
    assert unknown.status_code == 503
    assert problem_of(unknown)["code"] == "outcome_unknown"
    assert int(unknown["Retry-After"]) >= 1


def test_says_that_the_counter_cannot_sell_where_no_redis_is_set(
    client: Client, product: Product, settings: Settings
) -> None:
    settings.CACHES = {name: cache for name, cache in settings.CACHES.items() if name != "locks"}

    response = ask(client)

    assert response.status_code == 503
    assert problem_of(response)["code"] == "unavailable"
    assert "needs Redis" in problem_of(response)["detail"]


def test_a_ticket_kept_from_before_redis_was_taken_away_is_answered(
    client: Client, product: Product, settings: Settings
) -> None:
    """And so is anybody's made-up address: without Redis there is no ticket, and no crash."""
    address = ask(client)["Location"]
    settings.CACHES = {name: cache for name, cache in settings.CACHES.items() if name != "locks"}

    assert look(client, address).status_code == 404
    assert client.get(address).status_code == 404
