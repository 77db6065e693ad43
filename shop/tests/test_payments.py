"""Paying for a held order and calling it off, as a browser and as a program do it."""

from __future__ import annotations

import re
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core import signing
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from conftest import MakeProduct
from inventory import holds, terms
from inventory.audit import audit, read_books
from inventory.clock import MinutesFromNow
from inventory.errors import InvalidPurchase
from inventory.models import Movement, Order, Payment, Product, Stock
from inventory.tests.races import Crowd
from shop.payments import Asked, simulated

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

pytestmark = pytest.mark.django_db(transaction=True)

JSON = {"Accept": "application/json"}


@pytest.fixture
def shopper() -> Client:
    """A shopper, to which CSRF protection applies."""
    return Client(enforce_csrf_checks=True)


@pytest.fixture
def lamp(make_product: MakeProduct) -> Product:
    return make_product(units=10, hold_minutes=10)


def text_of(response: Response) -> str:
    return response.content.decode()


def heading(page: Response) -> str:
    found = re.search(r"<h1>(.*?)</h1>", text_of(page))
    assert found
    return found[1]


def forms_of(page: Response) -> list[tuple[str, dict[str, str]]]:
    """The forms of a page: where each goes, and its hidden fields."""
    found = re.findall(r'<form[^>]* action="([^"]+)"[^>]*>(.*?)</form>', text_of(page), re.DOTALL)
    found = [form for form in found if form[0] != "/i18n/setlang/"]  # on every page
    fields = r'<input type="hidden" name="([^"]+)" value="([^"]*)"'
    return [(action, dict(re.findall(fields, inside))) for action, inside in found]


def submit(shopper: Client, page: Response, ending: str, **button: str) -> Response:
    """Send the page's form to the address with that ending, and follow the answer."""
    [(action, fields)] = [form for form in forms_of(page) if form[0].endswith(ending)]
    answer = shopper.post(action, {**fields, **button})
    return shopper.get(answer["Location"]) if answer.status_code == 303 else answer


def bought(shopper: Client) -> Response:
    """Buy in a browser; the order's page."""
    return submit(shopper, shopper.get("/products/lamp/"), "/buy/", quantity="1")


def held(client: Client, **form: object) -> str:
    """Buy as a program; the order's address."""
    response = client.post("/products/lamp/buy/", form, headers=JSON)
    assert response.json()["status"] == "held"
    return f"/orders/{response.json()['order']}/"


def order_at(address: str) -> Order:
    return Order.objects.get(pk=address.split("/")[2])


def end_of_hold() -> None:
    Order.objects.update(expires_at=MinutesFromNow(-1))


def available() -> int:
    return Stock.objects.values_list("available", flat=True).get()


def asked_for(order: Order) -> Asked:
    return Asked(order=order.pk, reference=uuid.uuid4(), amount=order.total)


# A browser


def test_buys_and_pays_in_two_taps_from_the_product(shopper: Client, lamp: Product) -> None:
    page = bought(shopper)
    assert heading(page) == "Held for you"
    assert "Simulated payment: no money moves." in text_of(page)

    page = submit(shopper, page, "/pay/")

    assert heading(page) == "It is yours"
    assert "It is paid." in text_of(page)
    assert Order.objects.get().status == Order.Status.PAID
    assert Payment.objects.get().status == Payment.Status.CONFIRMED
    assert forms_of(page) == []


def test_tells_a_script_when_the_hold_ends_and_what_time_it_is(
    shopper: Client, lamp: Product
) -> None:
    page = bought(shopper)

    order = Order.objects.with_state().get()
    assert order.expires_at is not None
    assert f'datetime="{order.expires_at.isoformat()}"' in text_of(page)
    assert f'data-countdown-to="{order.expires_at.isoformat()}"' in text_of(page)
    assert f'data-server-now="{order.now:%Y-%m-%dT%H:}' in text_of(page)


def test_the_same_page_sent_twice_is_one_payment(shopper: Client, lamp: Product) -> None:
    page = bought(shopper)

    submit(shopper, page, "/pay/")
    again = submit(shopper, page, "/pay/")

    assert heading(again) == "It is yours"
    assert Payment.objects.get().status == Payment.Status.CONFIRMED


def test_pays_on_the_providers_own_page(shopper: Client, lamp: Product) -> None:
    page = submit(shopper, bought(shopper), "/pay/", at="provider")
    assert heading(page) == "Simulated payment: no money moves"
    assert not Payment.objects.exists()
    paid, _declined = re.findall(r'name="confirmation" value="([^"]+)"', text_of(page))

    page = submit(shopper, page, "/confirm/", confirmation=paid)

    assert heading(page) == "It is yours"
    assert Order.objects.get().status == Order.Status.PAID


def test_declines_on_the_providers_page_and_can_still_pay(shopper: Client, lamp: Product) -> None:
    page = submit(shopper, bought(shopper), "/pay/", at="provider")
    _paid, declined = re.findall(r'name="confirmation" value="([^"]+)"', text_of(page))

    page = submit(shopper, page, "/confirm/", confirmation=declined)

    assert "The payment was declined: nothing was paid." in text_of(page)
    assert not Payment.objects.exists()
    assert heading(submit(shopper, page, "/pay/")) == "It is yours"


def test_cancels_and_puts_the_unit_back_on_sale(shopper: Client, lamp: Product) -> None:
    page = submit(shopper, bought(shopper), "/cancel/")

    assert heading(page) == "Cancelled"
    assert "Buy again" in text_of(page)
    assert available() == 10
    assert audit(read_books(lamp.pk)) == []


def test_says_that_the_time_is_over_before_anybody_released_it(
    shopper: Client, lamp: Product
) -> None:
    page = bought(shopper)
    end_of_hold()

    again = shopper.get(f"/orders/{Order.objects.get().pk}/")
    refused = submit(shopper, page, "/pay/")

    assert heading(again) == heading(refused) == "Not paid in time"
    assert refused.status_code == 409
    assert "This order is no longer held for you" in text_of(refused)
    assert not Payment.objects.exists()
    assert "Not paid in time" in text_of(shopper.get("/orders/"))


def test_tells_a_buyer_whose_payment_came_too_late_that_it_comes_back(
    shopper: Client, lamp: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time was over just when the payment was on its way."""
    page = bought(shopper)
    pay = holds.pay

    def late(**facts: object) -> Payment:
        end_of_hold()
        return pay(**facts)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(holds, "pay", late)
    refused = submit(shopper, page, "/pay/")

    assert refused.status_code == 409
    assert "You will get it back" in text_of(refused)
    assert Payment.objects.get().status == Payment.Status.REFUND_DUE


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("confirmed", "Confirmed"),
        ("held", "Held, to be paid"),
        ("paid", "Paid"),
        ("cancelled", "Cancelled"),
        ("expired", "Not paid in time"),
    ],
)
def test_says_the_state_of_an_order_in_words(
    shopper: Client, lamp: Product, status: str, words: str
) -> None:
    bought(shopper)
    Order.objects.update(status=status)

    for address in ("/orders/", f"/orders/{Order.objects.get().pk}/"):
        found = re.search(r'<span class="state[^"]*">(.*?)</span>', text_of(shopper.get(address)))
        assert found
        assert found[1] == words


# A program


def test_tells_an_order_as_json(client: Client, lamp: Product) -> None:
    address = held(client, quantity=2)

    body = client.get(address, headers=JSON).json()

    order = Order.objects.get()
    assert order.expires_at is not None
    assert body.pop("now") < body["expires_at"] == order.expires_at.isoformat()
    assert body == {
        "order": str(order.pk),
        "status": "held",
        "product": "lamp",
        "quantity": 2,
        "total": "25.00",
        "created_at": order.created_at.isoformat(),
        "expires_at": order.expires_at.isoformat(),
        "refund_due": False,
    }


def test_pays_and_pays_again_as_json(client: Client, lamp: Product) -> None:
    address = held(client)
    form = {"payment": str(uuid.uuid4())}

    first = client.post(f"{address}pay/", form, headers=JSON)
    again = client.post(f"{address}pay/", form, headers=JSON)

    assert (first.status_code, first.json()["status"]) == (200, "paid")
    assert (again.status_code, again.json()["status"]) == (200, "paid")
    assert Payment.objects.count() == 1


def test_cancels_and_cancels_again_as_json(client: Client, lamp: Product) -> None:
    address = held(client)

    first = client.post(f"{address}cancel/", headers=JSON)
    again = client.post(f"{address}cancel/", headers=JSON)

    assert (first.status_code, first.json()["status"]) == (200, "cancelled")
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")
    assert available() == 10


@pytest.mark.parametrize(
    ("action", "status", "code"),
    [
        ("pay", "expired", "hold_over"),
        ("pay", "cancelled", "hold_over"),
        ("pay", "confirmed", "not_held"),
        ("cancel", "expired", "hold_over"),
        ("cancel", "confirmed", "not_held"),
    ],
)
def test_refuses_what_the_order_is_too_late_or_too_early_for(
    client: Client, lamp: Product, action: str, status: str, code: str
) -> None:
    address = held(client)
    Order.objects.update(status=status)

    response = client.post(f"{address}{action}/", headers=JSON)

    assert (response.status_code, response.json()["code"]) == (409, code)
    assert response.json()["order_status"] == status
    assert response["Content-Type"] == "application/problem+json"
    assert not Payment.objects.exists()
    assert available() == 9


def test_a_paid_order_is_not_cancelled_by_its_buyer(client: Client, lamp: Product) -> None:
    address = held(client)
    client.post(f"{address}pay/")

    response = client.post(f"{address}cancel/", headers=JSON)

    assert (response.status_code, response.json()["code"]) == (409, "not_held")
    assert order_at(address).status == Order.Status.PAID


@pytest.mark.parametrize("action", ["pay", "cancel"])
def test_anothers_order_is_not_found(lamp: Product, action: str) -> None:
    address = held(Client())

    response = Client().post(f"{address}{action}/", headers=JSON)

    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert order_at(address).status == Order.Status.HELD


@pytest.mark.parametrize("action", ["pay", "cancel"])
def test_needs_the_token_of_the_page(shopper: Client, lamp: Product, action: str) -> None:
    bought(shopper)

    response = shopper.post(f"/orders/{Order.objects.get().pk}/{action}/")

    assert response.status_code == 403
    assert Order.objects.get().status == Order.Status.HELD


@pytest.mark.parametrize("action", ["pay", "cancel"])
def test_looking_at_it_does_not_do_it(client: Client, lamp: Product, action: str) -> None:
    address = held(client)

    assert client.get(f"{address}{action}/").status_code == 405


@pytest.mark.parametrize("sent", ["", "1", "x" * 500, "\0"])
def test_a_payment_has_a_uuid(client: Client, lamp: Product, sent: str) -> None:
    address = held(client)

    response = client.post(f"{address}pay/", {"payment": sent}, headers=JSON)

    assert (response.status_code, response.json()["field"]) == (400, "payment")
    assert not Payment.objects.exists()


# The provider's confirmations


def confirm(text: str, client: Client | None = None) -> Response:
    """Send a confirmation as the provider does: no cookie, no token."""
    provider = client or Client(enforce_csrf_checks=True)
    return provider.post("/payments/simulated/confirm/", {"confirmation": text}, headers=JSON)


def test_takes_in_a_signed_confirmation_twice_with_the_same_answer(
    client: Client, lamp: Product
) -> None:
    order = order_at(held(client))
    signed = simulated.charge(asked_for(order))

    first, again = confirm(signed), confirm(signed)

    assert first.json() == again.json() == {"order": str(order.pk), "payment": "confirmed"}
    assert (first.status_code, again.status_code) == (200, 200)
    assert Payment.objects.count() == 1


def test_keeps_a_late_confirmation_for_the_refund_and_tells_the_buyer(
    client: Client, lamp: Product
) -> None:
    address = held(client)
    signed = simulated.charge(asked_for(order_at(address)))
    end_of_hold()
    holds.release_expired()

    told = confirm(signed)

    assert (told.status_code, told.json()["payment"]) == (200, "refund_due")
    assert "You will get it back" in text_of(client.get(address))
    assert client.get(address, headers=JSON).json()["refund_due"] is True
    assert available() == 10


def test_a_declined_payment_changes_nothing(client: Client, lamp: Product) -> None:
    order = order_at(held(client))

    told = confirm(simulated.decline(asked_for(order)))

    assert told.json() == {"order": str(order.pk), "payment": "declined"}
    assert not Payment.objects.exists()


def test_believes_only_what_the_provider_signed(client: Client, lamp: Product) -> None:
    order = order_at(held(client))
    asked = asked_for(order)
    good = simulated.charge(asked)
    facts = ["paid", order.pk.hex, uuid.uuid4().hex, str(order.total)]
    forgeries = [
        "",
        "x",
        "\0",
        good[:-1],
        good.replace(good[3], "A" if good[3] != "A" else "B", 1),
        signing.dumps(facts, salt="another"),
        signing.dumps(facts, key="another", salt="shop.payments.simulated"),
        signing.dumps(facts[:3], salt="shop.payments.simulated"),
        signing.dumps(["paid", "x", "y", "z"], salt="shop.payments.simulated"),
        signing.dumps({"paid": True}, salt="shop.payments.simulated"),
        simulated.start(asked).partition("ask=")[2],
        parse_qs(urlsplit(simulated.start(asked)).query)["ask"][0],
    ]

    for forgery in forgeries:
        response = confirm(forgery)

        assert (response.status_code, response.json()["code"]) == (400, "invalid"), forgery
        assert response.json()["field"] == "confirmation"
    assert Order.objects.get().status == Order.Status.HELD
    assert not Payment.objects.exists()


def test_a_confirmation_is_no_way_to_the_providers_page(client: Client, lamp: Product) -> None:
    asked = asked_for(order_at(held(client)))

    with pytest.raises(InvalidPurchase):
        simulated.read_ask(simulated.charge(asked))
    assert client.get("/payments/simulated/").status_code == 400
    assert client.get("/payments/simulated/", {"ask": simulated.charge(asked)}).status_code == 400


def test_another_amount_does_not_pay_the_order(client: Client, lamp: Product) -> None:
    order = order_at(held(client))
    asked = Asked(order=order.pk, reference=uuid.uuid4(), amount=Decimal("0.01"))

    assert confirm(simulated.charge(asked)).json()["payment"] == "refund_due"
    assert Order.objects.get().status == Order.Status.HELD


def test_a_confirmation_for_an_order_that_is_not_there_is_not_found(client: Client) -> None:
    asked = Asked(order=uuid.uuid4(), reference=uuid.uuid4(), amount=Decimal(1))

    response = confirm(simulated.charge(asked))

    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_asks_the_provider_to_send_it_again_while_the_books_are_away(
    client: Client, lamp: Product
) -> None:
    signed = simulated.charge(asked_for(order_at(held(client))))

    def fail(*args: object) -> None:
        raise OperationalError(2006, "the cable was pulled")

    with connection.execute_wrapper(fail):
        away = confirm(signed)

    assert (away.status_code, away["Retry-After"]) == (503, "1")
    assert confirm(signed).json()["payment"] == "confirmed"


def test_the_buyer_and_the_provider_at_once_end_in_one_paid_order(
    client: Client, lamp: Product
) -> None:
    address = held(client)
    asked = asked_for(order_at(address))
    signed = simulated.charge(asked)
    cookies = client.cookies

    def act(number: int) -> None:
        if number % 2:
            assert confirm(signed).status_code == 200
            return
        own = Client()
        own.cookies = cookies
        response = own.post(f"{address}pay/", {"payment": asked.reference.hex}, headers=JSON)
        assert response.json()["status"] == "paid"

    with Crowd(8) as crowd:
        outcomes = crowd.race(act)

    assert outcomes == {"sold": 8}
    assert Payment.objects.get().status == Payment.Status.CONFIRMED


# What it costs


def test_a_held_sale_takes_no_more_statements_than_another(
    client: Client, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terms, "TERMS_CACHE_S", 60)
    make_product("plain")
    make_product("lamp", hold_minutes=10)
    counts = []

    for slug in ("plain", "lamp"):
        client.post(f"/products/{slug}/buy/", headers=JSON)
        with CaptureQueriesContext(connection) as taken:
            assert client.post(f"/products/{slug}/buy/", headers=JSON).status_code == 201
        counts.append(len(taken.captured_queries))

    assert counts == [6, 6]


def test_lists_held_orders_in_two_queries_however_many(
    client: Client, lamp: Product, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(5):
        held(client)

    with django_assert_num_queries(2):
        assert text_of(client.get("/orders/")).count("Held, to be paid") == 5


def test_every_return_is_in_the_ledger(client: Client, lamp: Product) -> None:
    first, second = held(client), held(client)
    client.post(f"{first}cancel/")
    client.post(f"{second}pay/")

    kinds = list(Movement.objects.order_by("version").values_list("kind", "delta"))
    assert kinds == [("restock", 10), ("sale", -1), ("sale", -1), ("cancellation", 1)]
