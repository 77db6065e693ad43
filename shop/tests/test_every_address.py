"""Every address of the shop: whatever it is sent, it answers well and the books stay right."""

from __future__ import annotations

import json
import re
import statistics
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes, urlencode

import pytest
from django.conf import settings as configured
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.contrib.sessions.models import Session
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.test import Client
from django.urls import URLPattern, URLResolver
from django.utils.http import url_has_allowed_host_and_scheme, urlsafe_base64_encode
from hypothesis import HealthCheck, given
from hypothesis import settings as bounded
from hypothesis import strategies as st
from pytest_django import Settings

from conftest import MakeProduct
from inventory import holds, terms
from inventory.models import Movement, Order, Payment, Product, Stock
from inventory.purchases import purchase
from shop import accounts
from shop.payments import Asked, simulated
from shop.tests.test_bad_input import BODIES
from shop.urls import urlpatterns
from shop.wsgi import application

pytestmark = pytest.mark.django_db

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
PASSWORD = "a-long-enough-one"
ADA = "ada@example.org"
TOKEN = "a" * 32
"""The CSRF token of every browser here."""
FOREIGN = "00000000-0000-4000-8000-000000000000"
quickly = bounded(
    max_examples=15,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def routes_of(patterns: list[Any], before: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver) and route != "admin/":
            yield from routes_of(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern) and not route.startswith("admin/"):
            yield route


ARGUMENTS: dict[str, list[str]] = {
    "slug:slug": ["lamp", "vase", "nothing"],
    "uuid:reference": ["ORDER", FOREIGN],
    "str:token": ["TOKEN", "a:b:c"],
    "uidb64": ["MQ", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5"],
    "token": ["set-password", "abc-def"],
    "name": ["0" * 32 + ".webp"],
}
"""What may stand for each part of a route: something there is, and something that there is not."""
ROWS: dict[str, dict[str, list[str]]] = {
    "": {},
    "products/<slug:slug>/": {},
    "products/<slug:slug>/buy/": {"quantity": ["1"], "key": [FOREIGN]},
    "products/<slug:slug>/stock/": {},
    "products/<slug:slug>/queue/": {"told": ["waiting-1"]},
    "products/<slug:slug>/tickets/<uuid:reference>/": {},
    "orders/": {"page": ["2"]},
    "orders/<uuid:reference>/": {"payment": ["declined"]},
    "orders/<uuid:reference>/pay/": {"payment": [FOREIGN], "at": ["provider"]},
    "orders/<uuid:reference>/cancel/": {},
    "payments/simulated/": {"ask": ["ASK", "PAID"]},
    "payments/simulated/confirm/": {"confirmation": ["ASK", "DECLINED"]},
    "account/": {},
    "account/sign-in/": {"username": [ADA], "password": ["wrong"], "next": ["/orders/"]},
    "account/sign-out/": {"next": ["/orders/"]},
    "account/sign-up/": {"email": [ADA, "eve@example.org"]},
    "account/sign-up/sent/": {},
    "account/sign-up/<str:token>/": {
        "new_password1": ["a-long-enough-two"],
        "new_password2": ["a-long-enough-two", "short"],
    },
    "account/password/": {
        "old_password": ["wrong"],
        "new_password1": ["a-long-enough-two"],
        "new_password2": ["a-long-enough-two"],
    },
    "account/password/changed/": {},
    "account/reset/": {"email": [ADA, "eve@example.org"]},
    "account/reset/sent/": {},
    "account/reset/done/": {},
    "account/reset/<uidb64>/<token>/": {
        "new_password1": ["a-long-enough-two"],
        "new_password2": ["a-long-enough-two"],
    },
    r"^media/products/(?P<name>[0-9a-f]{32}\.webp)$": {},
    "i18n/setlang/": {"language": ["zh-hans", "xx"], "next": ["/orders/", "//evil.example/"]},
    "openapi.json": {},
    "healthz": {},
    "readyz": {},
}
"""The fields that each address reads, with what some of them may well be."""


def test_every_address_has_its_rows() -> None:
    assert set(routes_of(urlpatterns)) == set(ROWS)


# Asking, as gunicorn hands it on


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request; the path is percent-encoded."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def wants_json(self) -> bool:
        return self.headers.get("Accept") == JSON


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(client: Client, asked: Ask) -> Answer:
    """Ask the application that gunicorn serves, with the cookies of a test's browser."""
    headers = {
        "CONTENT_TYPE" if name == "Content-Type" else f"HTTP_{name.upper().replace('-', '_')}": text
        for name, text in {"X-CSRFToken": TOKEN, **asked.headers}.items()
    }
    environ = client._base_environ(
        PATH_INFO=unquote_to_bytes(asked.path).decode("latin-1"),
        REQUEST_METHOD=asked.method,
        QUERY_STRING=asked.query,
        CONTENT_LENGTH=str(len(asked.body)) if asked.body else "",
        **headers,
    )
    environ["wsgi.input"] = BytesIO(asked.body)
    told: dict[str, Any] = {}

    def start_response(status: str, headers: list[tuple[str, str]], *more: object) -> Any:
        told.update(status=int(status.split()[0]), headers=dict(headers))

    response = application(environ, start_response)
    body = b"".join(response)
    response.close()
    return Answer(**told, body=body)


def assert_well_formed(asked: Ask, answer: Answer) -> None:
    """No server's error, no traceback, and the Content-Type that was asked for."""
    kind = answer.headers.get("Content-Type", "")
    no_redis = answer.status == 503 and "locks" not in configured.CACHES
    assert answer.status < 500 or no_redis, answer
    assert b"Traceback" not in answer.body
    if answer.status >= 400 and asked.wants_json:
        assert kind == "application/problem+json", answer
        problem = answer.json()
        assert problem["status"] == answer.status
        assert {"title", "code", "detail"} <= set(problem)
    elif answer.status >= 400 or (answer.status == 200 and answer.body):
        known = (JSON, "text/plain", "text/html; charset=utf-8", "image/webp")
        assert kind in known, answer
    elif 300 < answer.status < 304:
        assert url_has_allowed_host_and_scheme(answer.headers["Location"], {"testserver"}), answer


# The books


@pytest.fixture(autouse=True)
def _one_connection() -> Iterator[None]:
    """Leave the test's transaction open between requests, as Django's own test client does."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture(autouse=True)
def _quick(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    monkeypatch.setattr(terms, "TERMS_CACHE_S", 60)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A shop with Ada in it, who holds a lamp; `words` stand for what only it knows."""

    ada: User
    browser: Client
    lamp: Product
    order: Order
    words: dict[str, str]

    def client(self, who: str) -> Client:
        """Ada's browser, signed in, or a stranger's."""
        if who == "stranger":
            client = Client()
            client.cookies["csrftoken"] = TOKEN
            return client
        if not Session.objects.exists():
            self.browser.force_login(self.ada, "django.contrib.auth.backends.ModelBackend")
            self.browser.cookies["csrftoken"] = TOKEN
        return self.browser


@pytest.fixture
def stage(make_product: MakeProduct) -> Stage:
    lamp = make_product(units=100, hold_minutes=10)
    make_product("vase", admitted_per_minute=60)
    ada = User.objects.create_user(ADA, ADA, PASSWORD)
    receipt = purchase(slug="lamp", quantity=1, buyer=f"user:{ada.pk}", key=uuid.uuid4())
    order = Order.objects.get(pk=receipt.order)
    asked = Asked(order=order.pk, reference=uuid.uuid4(), amount=order.total)
    words = {
        "ORDER": str(order.pk),
        "TOKEN": accounts.sign_up_token("eve@example.org"),
        "ASK": simulated._sign(asked, "ask"),
        "PAID": simulated.charge(asked),
        "DECLINED": simulated.decline(asked),
    }
    return Stage(ada=ada, browser=Client(), lamp=lamp, order=order, words=words)


Books = list[list[tuple[Any, ...]]]
USER_FIELDS = ("pk", "username", "email", "password", "is_staff", "is_superuser", "is_active")


def books() -> Books:
    """All that a refused request must leave alone."""
    return [
        list(Order.objects.order_by("pk").values_list()),
        list(Stock.objects.order_by("pk").values_list()),
        list(Movement.objects.order_by("product_id", "version").values_list()),
        list(Payment.objects.order_by("pk").values_list()),
        list(User.objects.order_by("pk").values_list(*USER_FIELDS)),
    ]


def may_have_changed_the_books(asked: Ask, answer: Answer) -> bool:
    """Whether it was a post, and taken: a form that comes back with its errors is a page."""
    is_page = answer.headers.get("Content-Type", "").startswith("text/html")
    return asked.method == "POST" and answer.status < 400 and not (answer.status == 200 and is_page)


def assert_books_are_right(stage: Stage, before: Books, asked: Ask, answer: Answer) -> Books:
    """Compare with the books before; the books now."""
    after = books()
    if after == before:
        return after
    assert may_have_changed_the_books(asked, answer), answer
    assert_ledger_agrees(stage)
    assert not User.objects.filter(is_staff=True).exists()
    assert not User.objects.filter(is_superuser=True).exists()
    stage.ada.refresh_from_db()
    assert (stage.ada.username, stage.ada.email) == (ADA, ADA)
    return after


def assert_ledger_agrees(stage: Stage) -> None:
    """What the audit finds too; but that needs a transaction of its own."""
    stock = Stock.objects.get(product=stage.lamp)
    deltas = Movement.objects.filter(product=stage.lamp).values_list("delta", flat=True)
    kept = Order.objects.filter(product=stage.lamp).exclude(status__in=holds.CALLED_OFF)
    sold = sum(kept.values_list("quantity", flat=True))
    assert (
        (stock.available, stock.version) == (sum(deltas), len(deltas)) == (100 - sold, len(deltas))
    )


# What may be sent

JUNK = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            *(
                "\0",
                "a\0b",
                "\r\nSet-Cookie: a=b",
                "１",
                "٣",
                "-1",
                "1e3",
                "NaN",
                "true",
                "[]",
                "{}",
            ),
            *(
                "9" * 400,
                "a" * 5000,
                "%00",
                "../../etc/passwd",
                "' OR 1=1 --",
                "{{7*7}}",
                "😀" * 100,
            ),
            *(
                FOREIGN,
                ADA,
                f"{ADA}\n",
                "é@é.example",
                "javascript:alert(1)",
                "http://[",
                "//e.example",
            ),
        ]
    ),
)
WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"))
FORGED = ["is_staff", "is_superuser", "status", "price", "quantity", "user", "csrfmiddlewaretoken"]
KLINGON = "text/html; x*=klingon''y"
ODD_TYPES = [
    KLINGON,
    f"{FORM}; charset=hex",
    f"{FORM}; charset=utf-16",
    f"{FORM}; charset=idna",
    f"{FORM}; charset*=klingon''x",
    "multipart/form-data",
    "multipart/form-data; boundary=é",
    "multipart/form-data; boundary=x; charset=rot13",
    "text/html;;;=;q",
    ";",
    "/",
    "a" * 5000,
]
ACCEPTED = [JSON, "text/html", "*/*", "", *ODD_TYPES, "text/html;q=nan", "a/b;q=-1,*/*;q=1e400"]
HEADERS: dict[str, st.SearchStrategy[str]] = {
    "Accept": st.sampled_from(ACCEPTED),
    "Content-Type": st.sampled_from(ODD_TYPES),
    "X-CSRFToken": st.just("a" * 31),
    "HX-Request": st.just("true"),
    "Idempotency-Key": st.sampled_from(["", FOREIGN, "x"]),
    "Range": st.sampled_from(["bytes=0-", "bytes=9-1"]),
    "If-Modified-Since": st.sampled_from(["Sun, 06 Nov 9999 99:99:99 GMT", "x"]),
    "X-Forwarded-For": st.sampled_from(["192.0.2.1, x", "::1%a", "é"]),
    "X-Forwarded-Proto": st.just("https"),
    "X-HTTP-Method-Override": st.just("DELETE"),
    "Host": st.sampled_from(["evil.example", "testserver:99999", "[", "é"]),
}
WITH_WORDS = ["Accept", "Accept-Language", "Accept-Encoding", "Referer", "Origin", "User-Agent"]
WITH_WORDS += ["If-None-Match", "Authorization", "Cookie", "X-Requested-With"]
HEADERS |= {name: st.one_of(HEADERS.get(name, WORDS), WORDS) for name in WITH_WORDS}
COOKIES = ["sessionid", "guest", "csrftoken", "admission", "place", "django_language", "messages"]


ODDITIES = ["method", "path", "query", "fields", "body", "headers", "cookies"]


@st.composite
def asks(draw: st.DrawFn, route: str) -> Ask:
    """Requests to an address: sensible ones, but for two things at most."""
    odd = draw(st.sets(st.sampled_from(ODDITIES), max_size=2))
    sent = [(name, draw(st.sampled_from(good))) for name, good in ROWS[route].items()]
    if "fields" in odd:
        name = st.sampled_from([*ROWS[route], *FORGED])
        sent += draw(st.lists(st.tuples(name, value_of(route)), max_size=4))
        sent = draw(st.permutations(sent))[: draw(st.integers(0, 6))]
    content_type, body = (
        draw(bodies_of(sent)) if "body" in odd else (FORM, urlencode(sent).encode())
    )
    headers = {"Accept": draw(st.sampled_from([JSON, "text/html"])), "Content-Type": content_type}
    if "headers" in odd:
        names = draw(st.sets(st.sampled_from(sorted(HEADERS)), min_size=1, max_size=3))
        headers |= {name: draw(HEADERS[name]) for name in sorted(names)}
    if "cookies" in odd:
        jar = draw(st.dictionaries(st.sampled_from(COOKIES), WORDS, min_size=1, max_size=3))
        headers["Cookie"] = "; ".join(f"{name}={text}" for name, text in jar.items())
    method = draw(st.sampled_from(["GET", "POST"]))
    form = st.just(urlencode(sent))
    query = draw(st.one_of(form, WORDS.map(quote))) if "query" in odd else ""
    return Ask(
        method=draw(st.sampled_from(METHODS)) if "method" in odd else method,
        path=draw(paths_of(route, is_odd="path" in odd)),
        query=draw(form) if method == "GET" and "query" not in odd else query,
        headers=headers,
        body=body if method == "POST" or "body" in odd else b"",
    )


METHODS = ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


def value_of(route: str) -> st.SearchStrategy[str]:
    sensible = [value for values in ROWS[route].values() for value in values]
    return st.one_of(JUNK, st.sampled_from(sensible)) if sensible else JUNK


@st.composite
def bodies_of(draw: st.DrawFn, sent: list[tuple[str, str]]) -> tuple[str, bytes]:
    """A Content-Type and a body, mostly the form that it says."""
    form = urlencode(sent).encode()
    parts = "".join(
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in sent
    )
    return draw(
        st.one_of(
            st.just((FORM, form)),
            st.just(("multipart/form-data; boundary=x", f"{parts}--x--\r\n".encode())),
            st.tuples(st.sampled_from([JSON, "text/plain", ""]), st.just(form)),
            st.tuples(st.sampled_from([FORM, JSON]), st.binary(max_size=50)),
        )
    )


@st.composite
def paths_of(draw: st.DrawFn, route: str, *, is_odd: bool) -> str:
    """Paths that match the route, and paths that are near it."""

    def fill(match: re.Match[str]) -> str:
        known = st.sampled_from(ARGUMENTS[match[1]])
        return draw(st.binary(max_size=20).map(quote_from_bytes) if is_odd else known)

    return "/" + re.sub("<([^>]+)>", fill, readable(route))


def readable(route: str) -> str:
    """A route without regular expressions."""
    return "media/products/<name>" if route.startswith("^") else route


def told(stage: Stage, asked: Ask) -> Ask:
    """Put what only this stage knows in place of the words for it."""
    path, query, body = asked.path, asked.query, asked.body
    for word, secret in stage.words.items():
        path, query = path.replace(word, quote(secret)), query.replace(word, quote(secret))
        body = body.replace(word.encode(), quote(secret).encode())
    return replace(asked, path=path, query=query, body=body)


@pytest.mark.parametrize("route", ROWS)
def test_nothing_that_is_sent_breaks_an_address(route: str, stage: Stage) -> None:
    now = books()

    @given(asked=asks(route), who=st.sampled_from(["ada", "stranger"]))
    @bounded(quickly, max_examples=12 if ROWS[route] else 6)
    def holds(asked: Ask, who: str) -> None:
        nonlocal now
        asked = told(stage, asked)
        answer = ask(stage.client(who), asked)
        assert_well_formed(asked, answer)
        now = assert_books_are_right(stage, now, asked, answer)

    holds()


@pytest.mark.parametrize(
    ("method", "header", "odd"),
    [
        ("GET", "Accept", KLINGON),
        ("GET", "Content-Type", KLINGON),
        ("GET", "Content-Type", "text/html; charset=hex"),
        ("POST", "Content-Type", "multipart/form-data; boundary=x; charset=idna"),
    ],
)
def test_no_media_type_breaks_an_address(stage: Stage, method: str, header: str, odd: str) -> None:
    now = books()
    for route in ROWS:
        path = "/" + re.sub(
            r"\^.*|<([^>]+)>", lambda match: ARGUMENTS[match[1] or "name"][0], route
        )
        asked = Ask(method=method, path=path, query="a=%C3%A9", headers={header: odd})
        asked = told(stage, asked)
        answer = ask(stage.client("ada"), asked)
        assert_well_formed(asked, answer)
        now = assert_books_are_right(stage, now, asked, answer)


def test_too_many_fields_in_the_address_are_refused_whatever_the_headers(stage: Stage) -> None:
    query = "&".join(f"a{number}=" for number in range(2000))

    for content_type in ["", FORM, f"{FORM}; charset=utf-8"]:
        answer = post(
            stage.client("ada"),
            "/products/lamp/buy/",
            "quantity=1",
            query,
            **{"Content-Type": content_type},
        )
        assert answer.status == 400


# Fields in the wrong place, or twice (B-02), and keys that are none (B-04)


def order_path(stage: Stage, action: str = "") -> str:
    return f"/orders/{stage.order.pk}/{action}"


def post(client: Client, path: str, fields: Any = "", query: str = "", **headers: str) -> Answer:
    """Send a form as a program."""
    body = fields if isinstance(fields, str) else urlencode(fields, doseq=True)
    headers = {"Accept": JSON, "Content-Type": FORM, **headers}
    asked = Ask(method="POST", path=path, query=query, headers=headers, body=body.encode())
    return ask(client, asked)


def status_of(stage: Stage) -> str:
    return Order.objects.values_list("status", flat=True).get(pk=stage.order.pk)


@pytest.mark.parametrize("query", [f"payment={FOREIGN}", "at=provider", "a=b&at=", "payment="])
@pytest.mark.parametrize("body", [f"payment={uuid.uuid4()}", ""])
def test_a_payment_is_asked_for_in_the_form_only(stage: Stage, query: str, body: str) -> None:
    """`at=provider` overlooked would take the money at once."""
    answer = post(stage.client("ada"), order_path(stage, "pay/"), body, query)

    assert (answer.status, answer.json()["code"]) == (400, "invalid")
    assert answer.json()["field"] in query
    assert status_of(stage) == "held"


@given(sent=st.one_of(JUNK, st.uuids().map(lambda key: f"{key} ")))
@quickly
def test_no_payment_but_a_uuid_is_taken_for_one(stage: Stage, sent: str) -> None:
    """All but one of the junk: it is a UUID, which would pay."""
    if sent == FOREIGN:
        return
    answer = post(stage.client("ada"), order_path(stage, "pay/"), {"payment": sent})

    assert (answer.status, answer.json()["field"]) == (400, "payment")
    assert status_of(stage) == "held"


def test_a_payment_of_one_order_pays_no_other(stage: Stage) -> None:
    client = stage.client("ada")
    bought = post(client, "/products/lamp/buy/").json()["order"]
    assert post(client, order_path(stage, "pay/"), {"payment": FOREIGN}).status == 200

    again = post(client, f"/orders/{bought}/pay/", {"payment": FOREIGN})

    assert (again.status, again.json()["code"]) == (422, "payment_reused")
    assert Order.objects.get(pk=bought).status == "held"


# Ids (B-03)


@pytest.mark.parametrize("action", ["pay/", "cancel/"])
def test_anothers_order_is_acted_on_exactly_as_one_that_does_not_exist(
    stage: Stage, action: str
) -> None:
    stranger = stage.client("stranger")
    before = books()

    foreign = post(stranger, order_path(stage, action), {"payment": "no uuid"})
    absent = post(stranger, f"/orders/{FOREIGN}/{action}", {"payment": "no uuid"})

    assert (foreign.status, foreign.body) == (404, absent.body)
    assert books() == before


@pytest.mark.parametrize("accept", [JSON, "text/html"])
@pytest.mark.parametrize(
    ("method", "place"),
    [
        ("GET", "/orders/{}/"),
        ("GET", "/products/lamp/tickets/{}/"),
        ("POST", "/orders/{}/pay/"),
        ("POST", "/orders/{}/cancel/"),
    ],
)
def test_anothers_order_takes_no_other_time_than_one_that_does_not_exist(
    stage: Stage, method: str, place: str, accept: str
) -> None:
    """Medians of requests in turns, which whatever else the machine does slows alike."""
    stranger = stage.client("stranger")
    took: dict[str, list[float]] = {str(stage.order.pk): [], FOREIGN: []}

    for _ in range(41):
        for reference, times in took.items():
            asked = Ask(method=method, path=place.format(reference), headers={"Accept": accept})
            begun = time.perf_counter()
            assert ask(stranger, asked).status == 404
            times.append(time.perf_counter() - begun)

    foreign_s, absent_s = map(statistics.median, took.values())
    assert abs(foreign_s - absent_s) < 0.005


@pytest.mark.parametrize(
    "trick", ["../{}", "%2e%2e/{}", "{}%00", "{}/", "%00{}", "{}.webp", "..%5c{}", "sub/{}"]
)
def test_no_trick_with_a_pictures_name_finds_anything(stage: Stage, trick: str) -> None:
    for name in ["0" * 32 + ".webp", "etc/passwd", "products.sqlite3"]:
        answer = ask(Client(), Ask(method="GET", path=f"/media/products/{trick.format(name)}"))
        assert answer.status == 404


@pytest.mark.parametrize("word", ["TOKEN", "ASK", "PAID", "DECLINED"])
def test_what_is_signed_for_one_thing_is_good_for_no_other(stage: Stage, word: str) -> None:
    signed = stage.words[word]
    before = books()
    browser = stage.client("ada")
    passwords = {"new_password1": PASSWORD, "new_password2": PASSWORD}

    if word != "TOKEN":
        path = f"/account/sign-up/{quote(signed)}/"
        assert b"does not work any more" in post(browser, path, passwords).body
    if word != "ASK":
        shown = Ask(method="GET", path="/payments/simulated/", query=urlencode({"ask": signed}))
        assert ask(browser, shown).status == 400
    if word not in ("PAID", "DECLINED"):
        confirm = {"confirmation": signed}
        assert post(browser, "/payments/simulated/confirm/", confirm).status == 400
    cookies = f"csrftoken={TOKEN}; guest={signed}; admission={signed}; place={signed}"
    queue = post(Client(), "/products/vase/buy/", Cookie=cookies)
    assert queue.json()["code"] == ("queue_required" if "locks" in configured.CACHES else "paused")

    assert books() == before


def test_a_reset_link_opens_the_account_that_it_is_for_only(stage: Stage) -> None:
    eve = User.objects.create_user("eve@example.org", "eve@example.org", PASSWORD)
    token = default_token_generator.make_token(eve)
    ada = urlsafe_base64_encode(str(stage.ada.pk).encode())
    before = books()
    passwords = {"new_password1": "a-long-enough-two", "new_password2": "a-long-enough-two"}

    for last in (token, "set-password"):
        answer = post(stage.client("stranger"), f"/account/reset/{ada}/{last}/", passwords)
        assert b"does not work any more" in answer.body

    assert books() == before


# Bodies that are no forms (B-05)

POSTED = [
    "/account/sign-in/",
    "/account/sign-up/",
    "/account/sign-up/TOKEN/",
    "/account/password/",
    "/account/reset/",
    "/account/sign-out/",
    "/orders/ORDER/pay/",
    "/orders/ORDER/cancel/",
    "/payments/simulated/confirm/",
    "/i18n/setlang/",
]


@pytest.mark.parametrize("path", POSTED)
def test_no_body_but_a_form_does_anything(stage: Stage, path: str) -> None:
    """The body names all that these addresses read, in a way that is none of a form's."""
    client = stage.client("ada")
    before = books()
    form = urlencode({name: values[0] for row in ROWS.values() for name, values in row.items()})
    fields = told(stage, Ask(method="", path="", body=form.encode())).body
    bodies = [*BODIES.values(), ("text/plain", fields), ("", fields)]

    for content_type, body in bodies:
        if content_type == FORM and len(body) < 100:
            continue  # a form, with fields that nobody reads here
        headers = {"Accept": JSON, "Content-Type": content_type}
        asked = Ask(method="POST", path=path, headers=headers, body=body)
        assert_well_formed(asked, ask(client, told(stage, asked)))

    assert books() == before


@pytest.mark.parametrize("action", ["pay/", "cancel/"])
def test_an_order_is_acted_on_without_any_body_too(stage: Stage, action: str) -> None:
    asked = Ask(method="POST", path=order_path(stage, action), headers={"Accept": JSON})

    answer = ask(stage.client("ada"), asked)

    assert answer.status == 200
    assert status_of(stage) == {"pay/": "paid", "cancel/": "cancelled"}[action]


@pytest.mark.parametrize("charset", ["hex", "utf-16", "idna", "latin-1", "undefined"])
@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "text/plain", FORM])
def test_fields_in_another_charset_are_refused_in_words(
    stage: Stage, charset: str, kind: str
) -> None:
    """Django would end in an error, or read something else than was meant."""
    content_type = f"{kind}; charset={charset}"

    for query in ["", "a=%C3%A9"]:
        headers = {"Content-Type": content_type}
        answer = post(stage.client("ada"), "/products/lamp/buy/", query=query, **headers)
        assert (answer.status, answer.json()["code"]) == (415, "encoded")


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "no-such-charset"])
def test_utf_8_may_be_said_to_be_it(stage: Stage, charset: str) -> None:
    content_type = f"{FORM}; charset={charset}"

    answer = post(stage.client("ada"), "/products/lamp/buy/", **{"Content-Type": content_type})

    assert answer.status == 201


# What is not the client's to say (B-07)


def test_a_payment_says_nothing_but_which_one_it_is(stage: Stage) -> None:
    forged = {
        "amount": "0.01",
        "total": "0",
        "status": "refund_due",
        "provider": "evil",
        "order": FOREIGN,
        "reference": FOREIGN,
        "buyer": "guest:eve",
    }

    answer = post(stage.client("ada"), order_path(stage, "pay/"), forged)

    payment = Payment.objects.get()
    assert answer.json()["status"] == "paid"
    assert (payment.order_id, payment.provider) == (stage.order.pk, "simulated")
    assert (payment.amount, payment.status) == (stage.order.total, "confirmed")


def test_a_cancellation_says_nothing(stage: Stage) -> None:
    forged = {"quantity": "99", "delta": "99", "order": FOREIGN, "status": "paid"}

    answer = post(stage.client("ada"), order_path(stage, "cancel/"), forged)

    assert answer.json()["status"] == "cancelled"
    assert Stock.objects.get(product=stage.lamp).available == 100
    assert_ledger_agrees(stage)


FORGED_USER = {
    "is_staff": "on",
    "is_superuser": "on",
    "is_active": "",
    "id": "1",
    "pk": "1",
    "username": "root@example.org",
    "email": "root@example.org",
    "groups": "1",
    "user_permissions": "1",
    "date_joined": "2001-01-01",
    "old_password": PASSWORD,
    "new_password1": "a-long-enough-two",
    "new_password2": "a-long-enough-two",
}


@pytest.mark.parametrize("path", ["/account/sign-up/TOKEN/", "/account/password/"])
def test_who_sets_a_password_sets_nothing_else(stage: Stage, path: str) -> None:
    name = ADA if "password" in path else "eve@example.org"
    pks = {ADA: stage.ada.pk}

    answer = post(stage.client("ada"), path.replace("TOKEN", stage.words["TOKEN"]), FORGED_USER)

    user = User.objects.get(username=name)
    assert answer.status == 302
    assert user.check_password("a-long-enough-two")
    assert (user.email, user.pk) == (name, pks.get(name, user.pk))
    assert (user.is_active, user.is_staff, user.is_superuser) == (True, False, False)
    assert not user.groups.exists()
    assert not user.user_permissions.exists()


# Names that grow


def test_an_address_that_is_too_long_when_spelled_out_is_refused(stage: Stage) -> None:
    """No more than a user's name may have: 140 characters of Chinese are 200 of ASCII."""
    domain = ".".join(["域" * 15] * 8) + ".example"
    long = f"a@{domain}"
    assert len(long) <= accounts.LONGEST_NAME < len(domain.encode("idna"))

    for path in ["/account/sign-up/", "/account/reset/"]:
        answer = post(stage.client("stranger"), path, {"email": long})
        assert answer.status == 200
        assert "Enter a valid email address." in answer.body.decode()
