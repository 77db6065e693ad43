"""The second language: the catalogue is whole and fresh, and no page, refusal or mail lacks it."""

from __future__ import annotations

import ast
import os
import re
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from gettext import GNUTranslations
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.conf import settings as shop_settings
from django.contrib.auth.models import User
from django.core import mail
from django.core.management import call_command
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.utils import timezone
from django.utils.translation import override
from pytest_django import Settings

from conftest import Buy, MakeProduct
from inventory import errors
from inventory.models import Order, Product
from inventory.purchases import check_quantity
from inventory.strategies import usable
from shop import refusals
from shop.bodies import ENCODED, INCOMPLETE, NO_LENGTH, TOO_LARGE, WholeBodyMiddleware
from shop.confirmations import confirm
from shop.errors import QueueRequired, RateLimited, SalePaused
from shop.models import MailLanguage
from shop.sentences import sentence
from shop.views.accounts import locked_out

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

CATALOGUE = Path(shop_settings.LOCALE_PATHS[0]) / "zh_Hans" / "LC_MESSAGES" / "django.po"
PLACEHOLDER = re.compile(r"%\(\w+\)\w|%\w|\{\w+\}|<[^>]+>")
WORD = re.compile(r"[A-Za-z]{2,}")
NAMES = re.compile(
    r"Last Unit|English|UTC|UUID|Redis|REDIS_URL|MariaDB|MySQL|Brass lamp"
    r"|“\w+”|\{\w+\}|[\w.+-]+@[\w.-]+|[0-9a-f-]{36}"
)
"""What is the same in every language."""
ADA, PASSWORD = "ada@example.org", "a-long-enough-one"
JSON = {"Accept": "application/json"}
Messages = dict[str, list[str]]


# The catalogue


def read_catalogue(path: Path) -> Messages:
    """What each sentence is in the other language, in one string for each plural form."""
    messages: Messages = {}
    for entry in path.read_text().split("\n\n"):
        texts: dict[str, str] = {}
        field = ""
        for line in entry.splitlines():
            if line.startswith(("msg", '"')):
                name, quote, text = line.partition('"')
                field = name.strip() or field
                texts[field] = texts.get(field, "") + ast.literal_eval(quote + text)
        said = [text for name, text in texts.items() if name.startswith("msgstr")]
        if texts.get("msgid"):
            messages[texts["msgid"]] = said
    return messages


@pytest.fixture
def extracted(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Messages:
    """The sentences that are in the code and the templates now."""
    if shutil.which("xgettext") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI must have xgettext")
        pytest.skip("needs xgettext: see bin/bootstrap --dev")
    monkeypatch.chdir(settings.BASE_DIR)
    settings.LOCALE_PATHS = [tmp_path]
    call_command(
        "makemessages",
        locale=["zh_Hans"],
        no_location=True,
        ignore_patterns=[".venv", "var", "tests", "locale"],
        verbosity=0,
    )
    return read_catalogue(tmp_path / "zh_Hans" / "LC_MESSAGES" / "django.po")


def test_the_catalogue_has_each_sentence_and_no_other(extracted: Messages) -> None:
    known = set(read_catalogue(CATALOGUE))

    assert len(extracted) > 150, "the extraction works"
    assert {"Sold out", "Buy", "There is no such order."} <= set(extracted)
    assert set(extracted) - known == set(), "run bin/messages and translate these"
    assert known - set(extracted) == set(), "run bin/messages: nothing says these any more"


def test_each_sentence_is_translated_and_none_is_a_guess() -> None:
    messages = read_catalogue(CATALOGUE)

    assert [msgid for msgid, said in messages.items() if not said or not all(said)] == []
    assert not re.search(r"^#(,.*\bfuzzy|~)", CATALOGUE.read_text(), re.MULTILINE)


def test_each_translation_keeps_what_is_put_in() -> None:
    for msgid, translations in read_catalogue(CATALOGUE).items():
        for said in translations:
            assert Counter(PLACEHOLDER.findall(said)) == Counter(PLACEHOLDER.findall(msgid)), msgid


def test_what_is_compiled_is_the_catalogue() -> None:
    with CATALOGUE.with_suffix(".mo").open("rb") as file:
        compiled = GNUTranslations(file)._catalog
    messages: Messages = {}
    for key, said in compiled.items():
        msgid = key if isinstance(key, str) else key[0]
        messages.setdefault(msgid, []).append(said)
    del messages[""]

    assert messages == read_catalogue(CATALOGUE), "run bin/messages"


# The pages


class Said(HTMLParser):
    """Collects what a page says to people, by its text, its attributes and its scripts' words."""

    SILENT = ("script", "style")
    HEARD = ("aria-label", "alt", "title", "placeholder", "data-announce")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.language = ""
        self.texts: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Collect attributes."""
        self._inside = tag
        given = {name: value or "" for name, value in attributes}
        if tag == "html":
            self.language = given["lang"]
        words = given.get("id") == "words"
        self.texts += [
            value
            for name, value in given.items()
            if name in self.HEARD or (words and name.startswith("data-") and name != "data-orders")
        ]

    def handle_endtag(self, tag: str) -> None:
        """Leave it."""
        self._inside = ""

    def handle_data(self, data: str) -> None:
        """Collect text."""
        if self._inside not in self.SILENT:
            self.texts.append(data)


def english_in(text: str) -> list[str]:
    """The texts' words that are not Chinese, but for names."""
    return WORD.findall(NAMES.sub("", text))


def assert_chinese(response: Response, status: int = 200) -> str:
    """Check a page, a piece of one or a problem; what it says."""
    assert response.status_code == status
    text = response.content.decode()
    if "json" in response["Content-Type"]:
        body = response.json()
        said = f"{body['title']}\n{body['detail']}"
    else:
        page = Said(text)
        assert page.language == ("zh-hans" if "<html" in text else "")
        said = "\n".join(page.texts)
    assert english_in(said) == []
    assert re.search(r"[\u4e00-\u9fff]", said)
    return said


@pytest.fixture
def visitor() -> Client:
    """Somebody whose browser asks for Chinese."""
    return Client(headers={"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.5"})


def test_these_tests_see_english() -> None:
    page = Said('<html lang="en"><p aria-label="Main">Buy</p><i id="words" data-buy="One"></i>')

    assert (page.language, english_in(" ".join(page.texts))) == ("en", ["Main", "Buy", "One"])


HOUR = timedelta(hours=1)
STATES: dict[str, dict[str, object]] = {
    "on sale": {"limit_per_buyer": 2, "hold_minutes": 10},
    "without a limit": {},
    "few": {"units": 2},
    "opening": {"opens_at": HOUR},
    "closing": {"closes_at": HOUR},
    "sold out": {"units": 0},
    "over": {"closes_at": -HOUR},
    "queued": {"admitted_per_minute": 10},
}


def offer(make_product: MakeProduct, fields: dict[str, object]) -> Product:
    now = timezone.now()
    times = {name: now + value for name, value in fields.items() if isinstance(value, timedelta)}
    return make_product(name="Brass lamp", **{**fields, **times})


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("state", STATES)
def test_the_list_and_the_product_are_in_chinese(
    visitor: Client, make_product: MakeProduct, state: str
) -> None:
    offer(make_product, STATES[state])

    for address in ("/", "/products/lamp/"):
        said = assert_chinese(visitor.get(address))
        assert "€12.50" in said
    assert_chinese(visitor.get("/products/lamp/stock/", headers={"HX-Request": "true"}))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/orders/",
        "/account/sign-in/",
        "/account/sign-up/",
        "/account/sign-up/sent/",
        "/account/reset/",
        "/account/reset/sent/",
        "/account/reset/done/",
        "/account/reset/MQ/a-b/",
        "/account/sign-up/forged/",
        "/account/password/changed/",
    ],
)
def test_a_guests_pages_are_in_chinese(visitor: Client, address: str) -> None:
    assert_chinese(visitor.get(address))


@pytest.mark.django_db(transaction=True)
def test_a_members_pages_are_in_chinese(visitor: Client) -> None:
    visitor.force_login(User.objects.create_user(ADA, ADA, PASSWORD))

    for address in ("/account/", "/account/password/", "/orders/"):
        assert_chinese(visitor.get(address))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("address", "form"),
    [
        ("/account/sign-in/", {"username": ADA, "password": "wrong"}),
        ("/account/sign-in/", {"username": "nobody", "password": ""}),
        ("/account/sign-up/", {"email": "nobody"}),
        ("/account/reset/", {"email": ""}),
    ],
)
def test_a_forms_errors_are_in_chinese(visitor: Client, address: str, form: dict[str, str]) -> None:
    assert_chinese(visitor.post(address, form))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("status", [None, *Order.Status.values])
def test_an_order_is_in_chinese_in_each_state(
    visitor: Client, make_product: MakeProduct, status: str | None
) -> None:
    offer(make_product, {"price": "1250.00", "hold_minutes": 10})
    order = visitor.post("/products/lamp/buy/")["Location"]
    if status:
        Order.objects.update(status=status)

    said = assert_chinese(visitor.get(f"{order}?payment=declined"))

    assert "€1250.00" in said
    assert re.search(r"\d年\d+月\d+日 \d\d:\d\d", said)
    assert_chinese(visitor.get("/orders/"))


@pytest.mark.django_db(transaction=True)
def test_many_orders_and_the_providers_page_are_in_chinese(
    visitor: Client, make_product: MakeProduct
) -> None:
    offer(make_product, {"hold_minutes": 10, "units": 30})
    orders = [visitor.post("/products/lamp/buy/")["Location"] for _ in range(21)]

    assert_chinese(visitor.get("/orders/?page=2"))
    provider = visitor.post(f"{orders[0]}pay/", {"at": "provider"})["Location"]
    assert_chinese(visitor.get(provider))
    visitor.post(f"{orders[0]}cancel/")
    assert_chinese(visitor.post(f"{orders[0]}pay/"), 409)
    assert_chinese(visitor.get("/payments/simulated/?ask=forged"), 400)


@pytest.mark.redis
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("piece", [{}, {"HX-Request": "true"}])
@pytest.mark.parametrize("opens_at", [None, HOUR])
def test_the_waiting_room_is_in_chinese(
    visitor: Client, make_product: MakeProduct, opens_at: timedelta | None, piece: dict[str, str]
) -> None:
    offer(make_product, {"admitted_per_minute": 1, "opens_at": opens_at, "units": 1})
    Client().get("/products/lamp/queue/")

    assert_chinese(visitor.get("/products/lamp/queue/", headers=piece))
    assert_chinese(visitor.post("/products/lamp/buy/"), 409)


@pytest.mark.django_db(transaction=True)
def test_a_room_that_is_paused_says_so_in_chinese(
    visitor: Client, make_product: MakeProduct, settings: Settings
) -> None:
    settings.CACHES = {"default": settings.CACHES["default"]}
    offer(make_product, {"admitted_per_minute": 1})

    assert_chinese(visitor.get("/products/lamp/queue/"), 503)


@pytest.mark.redis
@pytest.mark.django_db(transaction=True)
def test_a_ticket_is_in_chinese(visitor: Client, make_product: MakeProduct) -> None:
    offer(make_product, {"strategy": "redis_counter"})

    assert_chinese(visitor.get(visitor.post("/products/lamp/buy/")["Location"]), 202)
    assert_chinese(visitor.get(f"/products/lamp/tickets/{uuid.uuid4()}/"), 404)


# The refusals

ERRORS: dict[type[errors.InventoryError], list[errors.InventoryError]] = {
    errors.ProductNotFound: [errors.ProductNotFound(slug="lamp")],
    errors.TicketNotFound: [errors.TicketNotFound()],
    errors.SoldOut: [errors.SoldOut(available=0), errors.SoldOut(available=2)],
    errors.LimitReached: [errors.LimitReached(limit=2)],
    errors.NotOpen: [errors.NotOpen(), errors.NotOpen(closed_at=timezone.now())],
    errors.KeyReused: [errors.KeyReused()],
    errors.StockBusy: [errors.StockBusy()],
    errors.OutcomeUnknown: [errors.OutcomeUnknown()],
}
"""Told by sentence(), whatever language they were raised in."""


def raised_in_chinese() -> Iterator[errors.InventoryError]:
    """The errors that put themselves into words, when they are raised."""
    yield errors.OrderNotFound(reference=uuid.uuid4())
    yield errors.HoldOver(status="expired")
    yield errors.NotHeld(status="paid")
    yield errors.PaymentReused()
    yield QueueRequired(slug="lamp")
    yield SalePaused()
    yield RateLimited(retry_after_s=3)
    for refused in (lambda: check_quantity(0), lambda: usable("gone")):
        with pytest.raises(errors.InventoryError) as raised:
            refused()
        yield raised.value


def test_each_error_is_told_in_chinese() -> None:
    with override("zh-hans"):
        told = [*(error for told in ERRORS.values() for error in told), *raised_in_chinese()]
        for error in told:
            text = f"{sentence(error)} {refusals.answer_to(error).title}"
            assert english_in(text) == [], error

    assert {type(error) for error in told} == set(refusals.ANSWERS)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("headers", [{}, JSON])
@pytest.mark.parametrize(
    ("fields", "form", "status"),
    [
        ({"units": 0}, {}, 409),
        ({"units": 2}, {"quantity": "3"}, 409),
        ({"limit_per_buyer": 1}, {"quantity": "2"}, 409),
        ({"opens_at": HOUR}, {}, 409),
        ({"closes_at": -HOUR}, {}, 409),
        ({"strategy": "gone"}, {}, 503),
        ({}, {"quantity": "0"}, 400),
        ({}, {"quantity": ["1", "2"]}, 400),
        ({}, {"key": "none"}, 400),
    ],
)
def test_a_refused_purchase_is_told_in_chinese(
    visitor: Client,
    make_product: MakeProduct,
    fields: dict[str, object],
    form: dict[str, object],
    status: int,
    headers: dict[str, str],
) -> None:
    offer(make_product, fields)

    assert_chinese(visitor.post("/products/lamp/buy/", form, headers=headers), status)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [errors.StockBusy, errors.OutcomeUnknown])
def test_a_purchase_to_try_again_is_told_in_chinese(
    visitor: Client,
    make_product: MakeProduct,
    monkeypatch: pytest.MonkeyPatch,
    error: type[errors.StockBusy],
) -> None:
    offer(make_product, {})

    def fail(*args: object) -> None:
        raise error()

    monkeypatch.setattr("shop.views.buying._purchase", fail)

    assert_chinese(visitor.post("/products/lamp/buy/"), 503)


@pytest.mark.django_db(transaction=True)
def test_what_cannot_be_used_is_told_in_chinese(visitor: Client) -> None:
    assert_chinese(visitor.get("/nothing/"), 404)
    assert_chinese(visitor.delete("/orders/"), 405)
    assert_chinese(visitor.get("/products/lamp/queue/"), 404)
    large = {"body": "x" * (shop_settings.MAX_BODY_BYTES + 1)}
    assert_chinese(visitor.post("/products/lamp/buy/", large), 413)
    strict = Client(enforce_csrf_checks=True, headers={"Accept-Language": "zh-CN"})
    assert_chinese(strict.post("/products/lamp/buy/"), 403)


def never(request: HttpRequest) -> HttpResponse:
    """Stand for a view that is not reached."""
    raise AssertionError


def test_other_refusals_are_told_in_chinese() -> None:
    request = RequestFactory().get("/", headers=JSON)
    outage = OperationalError(2006, "Server has gone away")
    with override("zh-hans"):
        answers = [
            refusals.not_found(request, Http404()),
            refusals.bad_request(request, ValueError()),
            refusals.server_error(request),
            refusals.csrf_failure(request),
            refusals.DatabaseOutageMiddleware(never).process_exception(request, outage),
            locked_out(request, None, None),
        ]
        said = [answer.content.decode("unicode-escape") for answer in answers if answer]
        titles = [str(answer.title) for answer in (ENCODED, INCOMPLETE, NO_LENGTH, TOO_LARGE)]
        for header in ({"transfer-encoding": "chunked"}, {"content-encoding": "gzip"}):
            post = RequestFactory().post("/", {"key": "1"}, headers={**JSON, **header})
            answer = WholeBodyMiddleware(never)(post)
            said.append(answer.content.decode("unicode-escape"))

    assert len(said) == len(answers) + 2
    for text in said:
        told = dict(re.findall(r'"(title|detail)": "([^"]*)"', text))
        assert len(told) == 2
        assert english_in(" ".join(told.values())) == []
    assert english_in(" ".join(titles)) == []


# The switch


@pytest.mark.django_db(transaction=True)
def test_the_choice_is_kept_in_a_cookie_and_leads_back(make_product: MakeProduct) -> None:
    make_product()
    visitor = Client(headers={"Accept-Language": "en"})

    chosen = visitor.post("/i18n/setlang/", {"language": "zh-hans", "next": "/products/lamp/"})

    assert chosen["Location"] == "/products/lamp/"
    assert chosen.cookies[shop_settings.LANGUAGE_COOKIE_NAME].value == "zh-hans"
    page = visitor.get(chosen["Location"]).content.decode()
    assert "购买" in page
    assert 'lang="en">English</button>' in page, "each language has its own name"
    back = visitor.post("/i18n/setlang/", {"language": "en", "next": "/"})
    assert back.cookies[shop_settings.LANGUAGE_COOKIE_NAME].value == "en"
    assert "购买" not in visitor.get("/").content.decode()


# The mails


def assert_mailed_in_chinese() -> None:
    (message,) = mail.outbox
    mail.outbox.clear()
    body = re.sub(r"https?://\S+", "", str(message.body))
    for text in (str(message.subject), body):
        assert re.search(r"[\u4e00-\u9fff]", text)
        assert english_in(text) == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("address", ["/account/sign-up/", "/account/reset/"])
@pytest.mark.parametrize("known", [True, False])
def test_mails_about_an_account_are_in_the_language_of_the_page(
    visitor: Client, address: str, known: bool
) -> None:
    if known:
        User.objects.create_user(ADA, ADA, PASSWORD)

    visitor.post(address, {"email": ADA})

    assert_mailed_in_chinese()


@pytest.mark.django_db(transaction=True)
def test_an_order_is_confirmed_in_the_language_of_its_buyer(
    make_product: MakeProduct, buy: Buy
) -> None:
    ada = User.objects.create_user(ADA, ADA, PASSWORD)
    MailLanguage.objects.create(user=ada, language="zh-hans")
    receipt = buy(offer(make_product, {}), buyer=f"user:{ada.pk}", quantity=2)

    assert confirm(Order.objects.get(pk=receipt.order))

    assert "2 × €12.50 = €25.00" in mail.outbox[0].body
    assert_mailed_in_chinese()
