"""Buying through the waiting room over HTTP, on both kinds of server."""

from __future__ import annotations

import importlib
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.core import signing
from django.db import connection
from django.test import Client
from django.urls import clear_url_caches
from django.utils import timezone
from django_redis import get_redis_connection
from pytest_django import Settings

import shop.urls
from conftest import MakeProduct, drain
from inventory import adjustments
from inventory.errors import OutcomeUnknown, StockBusy
from inventory.ledger import PurchaseRequest, Receipt
from inventory.models import Movement, Order, Product
from inventory.strategies import STRATEGIES
from inventory.terms import forget, read_terms
from inventory.tests.servers import OwnRedis
from shop import admissions, redis_scripts, units_left
from shop.tests.test_waiting_room import age, in_order, key_of

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

pytestmark = [pytest.mark.redis, pytest.mark.django_db(transaction=True)]

JSON = {"Accept": "application/json"}
ROOM, BUY, PAGE = "/products/lamp/queue/", "/products/lamp/buy/", "/products/lamp/"
AT_ONCE = 60_000
DEFAULT = STRATEGIES["conditional_update"]


@pytest.fixture(autouse=True, params=["wsgi", "asgi"])
def _kind(request: pytest.FixtureRequest, settings: Settings) -> Iterator[None]:
    """Choose the addresses' views as SERVER_KIND does at start-up."""
    settings.SERVER_KIND = request.param
    importlib.reload(shop.urls)
    clear_url_caches()
    yield
    settings.SERVER_KIND = "wsgi"
    importlib.reload(shop.urls)
    clear_url_caches()


def enter(client: Client, **headers: str) -> Response:
    return client.get(ROOM, headers={**JSON, **headers})


def buy(client: Client, **form: object) -> Response:
    return client.post(BUY, form, headers=JSON)


def text_of(response: Response) -> str:
    return response.content.decode()


def problem_of(response: Response) -> dict[str, Any]:
    assert response["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == response.status_code
    return problem


def refusal_of(response: Response) -> tuple[int, str]:
    problem = problem_of(response)
    return response.status_code, problem["code"]


def ticket_of(client: Client) -> str:
    return client.cookies[admissions.COOKIE].value


def admitted_client() -> Client:
    client = Client()
    assert enter(client).json()["state"] == "admitted"
    return client


# The room's page


def test_an_early_visitor_waits_for_the_start(client: Client, make_product: MakeProduct) -> None:
    make_product(admitted_per_minute=60, opens_at=timezone.now() + timedelta(hours=1))

    told = enter(client)

    assert told.status_code == 200
    assert told["Cache-Control"] == "no-store"
    body = told.json()
    assert (body["state"], body["waiting"]) == ("early", 1)
    assert 0 < body["poll_after_s"] < 40
    page = text_of(client.get(ROOM))
    assert "1 person is waiting" in page
    assert "drawn among all" in page


def test_a_waiting_visitor_is_told_the_number_and_about_how_long(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(admitted_per_minute=1)
    for _ in range(3):
        enter(Client())

    body = enter(client).json()

    assert (body["state"], body["place"], body["wait_s"]) == ("waiting", 3, 180)
    page = text_of(client.get(ROOM))
    assert "You are number <strong>3</strong>" in page
    assert "in about 3 minutes" in page


def test_the_page_moves_by_itself_with_and_without_scripts(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(admitted_per_minute=1)
    enter(Client())

    pages = [text_of(client.get(ROOM)) for _ in range(5)]

    assert all(re.search(r'<noscript><meta http-equiv="refresh" content="\d+">', p) for p in pages)
    found = [re.search(r'hx-get="([^"]+)" hx-trigger="every (\d+)ms"', page) for page in pages]
    assert all(found)
    assert found[0] is not None
    assert found[0][1].startswith(ROOM)
    assert len({match[2] for match in found if match}) > 1, "not all at once"


def test_an_open_page_gets_only_what_changes(client: Client, make_product: MakeProduct) -> None:
    make_product(admitted_per_minute=1)
    enter(Client())

    fresh = text_of(client.get(ROOM, headers={"HX-Request": "true"}))
    told = text_of(client.get(f"{ROOM}?told=waiting-1", headers={"HX-Request": "true"}))

    assert "<html" not in fresh + told
    assert "You are number <strong>1</strong>" in fresh
    assert "You are next." in fresh
    assert "You are next." not in told, "a listener is told once"
    assert "You are number <strong>1</strong>" in told


def test_whose_turn_it_is_is_taken_to_the_product(make_product: MakeProduct) -> None:
    make_product(admitted_per_minute=AT_ONCE)

    browser, page, program = Client(), Client(), Client()
    sent = browser.get(ROOM)
    moved = page.get(ROOM, headers={"HX-Request": "true"})
    told = enter(program).json()

    assert (sent.status_code, sent["Location"]) == (303, PAGE)
    assert moved["HX-Redirect"] == PAGE
    assert told == {"state": "admitted", "expires_in_s": told["expires_in_s"], "product": PAGE}
    assert 295 <= told["expires_in_s"] <= 300


def test_the_ticket_is_out_of_reach_of_scripts_and_other_products(
    make_product: MakeProduct,
) -> None:
    make_product(admitted_per_minute=AT_ONCE)

    cookie = admitted_client().cookies[admissions.COOKIE]

    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", PAGE)
    assert 295 <= cookie["max-age"] <= 300


def test_the_product_page_has_the_room_before_the_button(make_product: MakeProduct) -> None:
    make_product(admitted_per_minute=AT_ONCE)

    outside = text_of(Client().get(PAGE))
    inside = text_of(admitted_client().get(PAGE))

    assert f'href="{ROOM}"' in outside
    assert BUY not in outside
    assert BUY in inside


def test_a_product_without_a_room_has_none(client: Client, make_product: MakeProduct) -> None:
    make_product()

    response = enter(client)

    assert (response.status_code, response["Location"]) == (303, PAGE)
    assert ROOM not in text_of(client.get(PAGE))
    assert not list(get_redis_connection("locks").scan_iter("queue:*"))


def test_there_is_no_room_of_nothing(client: Client) -> None:
    assert refusal_of(enter(client)) == (404, "not_found")
    assert client.get(ROOM).status_code == 404


def test_when_the_sale_is_over_so_is_the_room(client: Client, make_product: MakeProduct) -> None:
    now = timezone.now()
    make_product(
        admitted_per_minute=60,
        opens_at=now - timedelta(hours=2),
        closes_at=now - timedelta(hours=1),
    )

    assert refusal_of(enter(client)) == (409, "not_open")
    assert client.get(ROOM)["Location"] == PAGE


def test_says_sold_out_and_keeps_the_place(client: Client, make_product: MakeProduct) -> None:
    make_product(units=0, admitted_per_minute=AT_ONCE)

    assert enter(client).json()["state"] == "sold_out"
    assert "No unit is left. You keep your place" in text_of(client.get(ROOM))


def test_asks_the_database_once_a_second_how_many_are_left(
    client: Client, make_product: MakeProduct, django_assert_num_queries: Any
) -> None:
    make_product(units=0, admitted_per_minute=60)
    enter(client)

    with django_assert_num_queries(0):
        for _ in range(5):
            enter(client)


def test_cannot_be_posted_to(client: Client, make_product: MakeProduct) -> None:
    make_product(admitted_per_minute=60)

    assert client.post(ROOM).status_code == 405


# Buying with an admission


def test_sells_to_whom_the_room_let_in(make_product: MakeProduct) -> None:
    make_product(admitted_per_minute=AT_ONCE)

    sold = buy(admitted_client(), quantity=2)

    assert sold.status_code == 201
    assert sold.cookies[admissions.COOKIE]["max-age"] == 0, "the ticket is used up"
    assert sold.cookies[admissions.COOKIE]["path"] == PAGE


def test_refuses_whom_it_did_not_let_in(client: Client, make_product: MakeProduct) -> None:
    make_product(admitted_per_minute=60)

    problem = problem_of(buy(client))

    assert (problem["status"], problem["code"]) == (409, "queue_required")
    assert problem["queue"] == ROOM
    page = client.post(BUY, {"quantity": 1})
    assert page.status_code == 409
    assert f'href="{ROOM}"' in text_of(page)
    assert not Order.objects.exists()


def test_who_waits_may_not_buy_yet(client: Client, make_product: MakeProduct) -> None:
    make_product(admitted_per_minute=1)
    enter(Client())
    assert enter(client).json()["state"] == "waiting"

    assert refusal_of(buy(client)) == (409, "queue_required")


@pytest.mark.parametrize("change", ["forged", "of another product", "of another secret", "empty"])
def test_a_ticket_that_is_not_genuine_is_none(
    make_product: MakeProduct, settings: Settings, change: str
) -> None:
    product = make_product(admitted_per_minute=AT_ONCE)
    client = admitted_client()
    buyer, nonce = signing.loads(ticket_of(client), salt=admissions._salt(product.pk))
    ticket = {
        "forged": ticket_of(client)[:-2] + "xx",
        "of another product": admissions.sign_ticket(product.pk + 1, buyer=buyer, nonce=nonce),
        "of another secret": signing.dumps(
            [buyer, nonce], key="guessed", salt=admissions._salt(product.pk)
        ),
        "empty": "",
    }[change]
    client.cookies[admissions.COOKIE] = ticket

    assert refusal_of(buy(client)) == (409, "queue_required")

    client.cookies[admissions.COOKIE] = admissions.sign_ticket(product.pk, buyer=buyer, nonce=nonce)
    assert buy(client).status_code == 201


def test_a_ticket_cannot_be_sold_on(make_product: MakeProduct) -> None:
    make_product(admitted_per_minute=AT_ONCE)
    seller, other = admitted_client(), Client()
    other.get(PAGE)
    other.cookies[admissions.COOKIE] = ticket_of(seller)

    assert refusal_of(buy(other)) == (409, "queue_required")
    assert buy(seller).status_code == 201


def test_nor_used_in_place_of_ones_own(make_product: MakeProduct) -> None:
    """Another's ticket with one's own admission in Redis is no more than none."""
    product = make_product(admitted_per_minute=AT_ONCE)
    first, second = admitted_client(), admitted_client()
    _, nonce = signing.loads(ticket_of(first), salt=admissions._salt(product.pk))
    buyer, _ = signing.loads(ticket_of(second), salt=admissions._salt(product.pk))
    second.cookies[admissions.COOKIE] = admissions.sign_ticket(product.pk, buyer=buyer, nonce=nonce)

    assert refusal_of(buy(second)) == (409, "queue_required")


def test_a_ticket_expires_with_its_admission(make_product: MakeProduct, settings: Settings) -> None:
    product = make_product(admitted_per_minute=AT_ONCE)
    client = admitted_client()

    age(read_terms(product.slug), settings.ADMISSION_S)

    assert refusal_of(buy(client)) == (409, "queue_required")


def test_a_ticket_expires_by_itself_too(
    make_product: MakeProduct, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_product(admitted_per_minute=AT_ONCE)
    client = admitted_client()
    later = time.time() + settings.ADMISSION_S + 2
    monkeypatch.setattr("django.core.signing.time.time", lambda: later)

    assert f'href="{ROOM}"' in text_of(client.get(PAGE))


def test_an_admission_is_good_for_one_purchase(make_product: MakeProduct) -> None:
    product = make_product(admitted_per_minute=AT_ONCE)
    client = admitted_client()
    ticket = ticket_of(client)
    assert buy(client).status_code == 201

    client.cookies[admissions.COOKIE] = ticket

    assert refusal_of(buy(client)) == (409, "queue_required")
    assert Order.objects.count() == 1
    assert not get_redis_connection("locks").exists(admissions.keys(product.pk)[0])


def test_an_admission_is_good_for_one_of_many_purchases_at_once(make_product: MakeProduct) -> None:
    make_product(admitted_per_minute=AT_ONCE)
    ticketed = admitted_client()
    barrier, statuses = threading.Barrier(12), []

    def try_it() -> None:
        client = Client()
        for name, morsel in ticketed.cookies.items():
            client.cookies[name] = morsel.value
        barrier.wait()
        statuses.append(buy(client, key=uuid.uuid4()).status_code)
        connection.close()

    threads = [threading.Thread(target=try_it) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses) == [201] + [409] * 11
    assert Order.objects.count() == 1


@pytest.mark.parametrize("ticket", ["kept", "given back"])
def test_the_same_key_is_answered_with_its_order(make_product: MakeProduct, ticket: str) -> None:
    make_product(admitted_per_minute=AT_ONCE)
    client, key = admitted_client(), uuid.uuid4()
    kept = ticket_of(client)
    first = buy(client, key=key)
    if ticket == "kept":
        client.cookies[admissions.COOKIE] = kept

    again = buy(client, key=key)

    assert (again.status_code, again["Idempotent-Replayed"]) == (200, "true")
    assert again.json() == first.json()
    assert refusal_of(buy(client, key=key, quantity=2)) == (422, "key_reused")


def test_a_purchase_still_in_the_counters_queue_is_found_again(make_product: MakeProduct) -> None:
    product = make_product(admitted_per_minute=AT_ONCE, strategy="redis_counter")
    client, key = admitted_client(), uuid.uuid4()
    accepted = buy(client, key=key)
    assert accepted.status_code == 202

    again = buy(client, key=key)
    drain(product)
    sold = buy(client, key=key)

    assert (again.status_code, again.json()["order"]) == (202, accepted.json()["order"])
    assert (sold.status_code, sold.json()["order"]) == (200, accepted.json()["order"])
    assert Order.objects.count() == 1


def test_a_refused_purchase_leaves_the_admission(make_product: MakeProduct) -> None:
    make_product(units=3, admitted_per_minute=AT_ONCE)
    client = admitted_client()

    assert refusal_of(buy(client, quantity=5)) == (409, "sold_out")

    assert buy(client, quantity=3).status_code == 201


def failing_with(error: Exception) -> Callable[[PurchaseRequest], Receipt]:
    def fail(request: PurchaseRequest) -> Receipt:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "another_key"), [(StockBusy(), 201), (OutcomeUnknown(), 409)], ids=["busy", "unknown"]
)
def test_an_unknown_outcome_keeps_the_admission_for_its_key_alone(
    make_product: MakeProduct,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    another_key: int,
) -> None:
    make_product(admitted_per_minute=AT_ONCE)
    client, key = admitted_client(), uuid.uuid4()
    with monkeypatch.context() as broken:
        fail = failing_with(error)

        async def afail(request: PurchaseRequest) -> Receipt:
            return fail(request)

        broken.setattr(DEFAULT, "sell", fail)
        broken.setattr(DEFAULT, "asell", afail)
        assert buy(client, key=key).status_code == 503

    other = Client()
    for name, morsel in client.cookies.items():
        other.cookies[name] = morsel.value
    assert buy(other, key=uuid.uuid4()).status_code == another_key
    assert buy(client, key=key).status_code == (201 if another_key == 409 else 409)
    assert Order.objects.count() == 1


def test_a_purchase_on_its_way_keeps_the_admission_from_other_keys(
    make_product: MakeProduct,
) -> None:
    """Two tries under one key: the refusal of the first frees nothing while the second is on."""
    product = make_product(admitted_per_minute=AT_ONCE)
    client = admitted_client()
    buyer, nonce = signing.loads(ticket_of(client), salt=admissions._salt(product.pk))
    keys, claim = admissions.keys(product.pk), [buyer, nonce, "key1"]
    for _ in range(2):
        assert redis_scripts.run("claim", keys=keys, arguments=claim)
    redis_scripts.run("close", keys=keys, arguments=[*claim, 0, 0])
    assert not redis_scripts.run("claim", keys=keys, arguments=[buyer, nonce, "key2"])

    redis_scripts.run("close", keys=keys, arguments=[*claim, 0, 0])
    assert redis_scripts.run("claim", keys=keys, arguments=[buyer, nonce, "key2"])


def test_says_too_early_or_over_rather_than_enter(
    client: Client, make_product: MakeProduct
) -> None:
    now = timezone.now()
    product = make_product(admitted_per_minute=60, opens_at=now + timedelta(hours=1))
    assert refusal_of(buy(client)) == (409, "not_open")

    opened = {"opens_at": now - timedelta(hours=2), "closes_at": now - timedelta(hours=1)}
    Product.objects.filter(pk=product.pk).update(**opened)
    forget()
    assert refusal_of(buy(client)) == (409, "not_open")


def test_a_member_buys_with_an_admission_of_his_own(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(admitted_per_minute=AT_ONCE)
    client.force_login(User.objects.create_user("ada"))

    assert enter(client).json()["state"] == "admitted"
    assert buy(client).status_code == 201
    assert Order.objects.get().buyer.startswith("user:")


# Redis lost


def test_redis_down_means_paused_and_the_order_is_found_all_the_same(
    make_product: MakeProduct, own_redis: OwnRedis
) -> None:
    make_product(admitted_per_minute=AT_ONCE)
    client, key, waiting = admitted_client(), uuid.uuid4(), admitted_client()
    first = buy(client, key=key)

    own_redis.kill()

    room, refused = enter(Client()), buy(waiting)
    assert (refusal_of(room), room["Retry-After"]) == ((503, "paused"), "5")
    assert (refusal_of(refused), refused["Retry-After"]) == ((503, "paused"), "5")
    page = Client().get(ROOM)
    assert (page.status_code, page["Retry-After"]) == (503, "5")
    assert "The sale is paused" in text_of(page)
    open_page = Client().get(ROOM, headers={"HX-Request": "true"})
    assert (open_page.status_code, "The sale is paused" in text_of(open_page)) == (200, True)
    assert buy(client, key=key).json() == first.json()
    assert Order.objects.count() == 1


def test_redis_wiped_takes_admissions_and_gives_places_back(
    make_product: MakeProduct, own_redis: OwnRedis
) -> None:
    product = make_product(admitted_per_minute=6)
    inside, waiting = admitted_client(), [Client() for _ in range(5)]
    for client in waiting:
        assert enter(client).json()["state"] == "waiting"
    terms = read_terms(product.slug)
    order = in_order(terms)

    own_redis.client.flushall()

    for client in reversed(waiting):
        assert enter(client).json()["state"] == "waiting", "nobody comes in by a loss"
    assert in_order(terms) == order
    assert refusal_of(buy(inside)) == (409, "queue_required")
    assert own_redis.client.zcard(key_of(terms, "live")) == 0


def test_a_unit_that_comes_back_lets_the_next_one_in(
    client: Client, make_product: MakeProduct
) -> None:
    product = make_product(units=1, admitted_per_minute=AT_ONCE)
    assert buy(admitted_client()).status_code == 201
    units_left.forget()
    assert enter(client).json()["state"] == "sold_out"

    adjustments.adjust(
        product_id=product.pk, delta=1, kind=Movement.Kind.RESTOCK, reason="more", actor="test"
    )
    units_left.forget()
    age(read_terms(product.slug), admissions.PROMISED_FOR_MS / 1000)

    assert enter(client).json()["state"] == "admitted"


def test_lets_nobody_in_for_a_unit_that_the_counter_has_given_away(
    make_product: MakeProduct,
) -> None:
    make_product(units=1, admitted_per_minute=AT_ONCE, strategy="redis_counter")
    product = Product.objects.get()
    assert buy(admitted_client()).status_code == 202
    age(read_terms("lamp"), admissions.PROMISED_FOR_MS / 1000)
    units_left.forget()

    assert enter(Client()).json()["state"] == "sold_out", "no consumer has committed it yet"

    drain(product)
    units_left.forget()
    assert enter(Client()).json()["state"] == "sold_out"
