"""How often one may ask: exact windows per buyer and address, and none for the lab."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import math
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.core import mail
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import clear_url_caches
from django_redis import get_redis_connection
from pytest_django import Settings

import shop.urls
from conftest import MakeProduct
from inventory import locks
from inventory.errors import StockBusy
from inventory.models import Order
from inventory.tests.servers import OwnRedis
from shop import rate_limits, redis_scripts
from shop.addresses import client_address
from shop.errors import RateLimited
from shop.tests.test_settings import STRONG_KEY, last_line_of_refusal, run
from shop.views.limiting import limited

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

pytestmark = pytest.mark.redis
JSON = {"Accept": "application/json"}
SECOND_US = 1_000_000


@pytest.fixture(autouse=True)
def _limits(settings: Settings) -> None:
    """Three per buyer and five per address, in ten seconds."""
    few = {"buyer": (3, 10), "address": (5, 10)}
    settings.RATE_LIMITS = dict.fromkeys(("buy", "sign_in", "queue_entry", "queue", "test"), few)
    if "locks" in settings.CACHES:
        redis = get_redis_connection("locks")
        for key in redis.scan_iter("rates:*"):
            redis.delete(key)


@pytest.fixture(params=["wsgi", "asgi"])
def kind(request: pytest.FixtureRequest, settings: Settings) -> Iterator[str]:
    """Choose the addresses' views as SERVER_KIND does at start-up."""
    settings.SERVER_KIND = request.param
    importlib.reload(shop.urls)
    clear_url_caches()
    yield request.param
    settings.SERVER_KIND = "wsgi"
    importlib.reload(shop.urls)
    clear_url_caches()


@pytest.fixture(params=["sync", "async"])
def way(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def ask(way: str = "sync", *, buyer: str = "guest:1", address: str = "192.0.2.1") -> int:
    """Ask once: 0 when let through, else the seconds to wait."""
    try:
        if way == "sync":
            rate_limits.check("test", buyer=buyer, address=address)
        else:
            asyncio.run(_ask(buyer, address))
    except RateLimited as error:
        return error.retry_after_s
    return 0


async def _ask(buyer: str, address: str) -> None:
    try:
        await rate_limits.acheck("test", buyer=buyer, address=address)
    finally:
        await locks.close()


def moments(buyer: str = "guest:1") -> list[int]:
    key = f"rates:{{test}}:{buyer}"
    return [int(moment) for moment in get_redis_connection("locks").lrange(key, 0, -1)]


def slide(now_us: int, *limits: tuple[list[int], int, int]) -> int:
    """Run the script as if it were `now_us`; each limit: earlier moments, how many, seconds."""
    redis = get_redis_connection("locks")
    clock = f"local time = {{{now_us // SECOND_US}, {now_us % SECOND_US}}}"
    source = redis_scripts._source("slide")
    assert "local time = redis.call('TIME')" in source
    script = redis.register_script(source.replace("local time = redis.call('TIME')", clock))
    keys = [f"rates:{{test}}:slide:{number}" for number in range(len(limits))]
    for key, (earlier, _, _) in zip(keys, limits, strict=True):
        redis.delete(key)
        if earlier:
            redis.rpush(key, *earlier)
    arguments = [number for _, most, seconds in limits for number in (most, seconds)]
    wait_us: int = script(keys=keys, args=arguments, client=redis)
    return wait_us


# The window


def test_lets_through_so_many_and_no_more(way: str) -> None:
    assert [ask(way) for _ in range(3)] == [0, 0, 0]
    assert 9 <= ask(way) <= 10


def test_another_buyer_is_counted_apart(way: str) -> None:
    for _ in range(3):
        ask(way)

    assert ask(way, buyer="guest:2", address="192.0.2.2") == 0


def test_one_address_is_counted_whatever_the_buyer(way: str) -> None:
    assert [ask(way, buyer=f"guest:{number}") for number in range(5)] == [0] * 5
    assert ask(way, buyer="guest:5") > 0
    assert ask(way, buyer="guest:5", address="192.0.2.2") == 0


def test_scopes_are_counted_apart() -> None:
    for _ in range(3):
        ask()

    rate_limits.check("buy", buyer="guest:1", address="192.0.2.1")


@pytest.mark.parametrize(
    ("now_us", "wait_us"),
    [(0, 10 * SECOND_US), (1, 10 * SECOND_US - 1), (10 * SECOND_US - 1, 1), (10 * SECOND_US, 0)],
)
def test_a_slot_frees_exactly_a_window_after_its_request(now_us: int, wait_us: int) -> None:
    start = 1_700_000_000 * SECOND_US

    assert slide(start + now_us, ([start, start, start], 3, 10)) == wait_us


def test_the_window_slides_and_does_not_jump() -> None:
    """Three late in one window and three early in the next are too many: no fixed buckets."""
    start = 1_700_000_000 * SECOND_US
    late = [start + 9 * SECOND_US + n for n in range(3)]

    assert slide(start + 11 * SECOND_US, (late, 3, 10)) == 8 * SECOND_US
    assert slide(start + 19 * SECOND_US, (late, 3, 10)) == 0, "the first of them"
    assert slide(start + 19 * SECOND_US + 1, ([*late[1:], start + 19 * SECOND_US], 3, 10)) == 0
    assert slide(start + 19 * SECOND_US, ([*late[1:], start + 19 * SECOND_US], 3, 10)) == 1


def test_waits_for_the_limit_that_frees_last_and_counts_under_none() -> None:
    start = 1_700_000_000 * SECOND_US
    full, fuller = ([start] * 3, 3, 10), ([start + 5 * SECOND_US] * 5, 5, 60)

    assert slide(start + 6 * SECOND_US, full, fuller) == 59 * SECOND_US
    assert slide(start + 6 * SECOND_US, ([], 3, 10), fuller) == 59 * SECOND_US
    assert get_redis_connection("locks").llen("rates:{test}:slide:0") == 0
    assert get_redis_connection("locks").llen("rates:{test}:slide:1") == 5


def test_a_refused_request_costs_no_slot(way: str) -> None:
    for _ in range(3):
        ask(way)
    before = moments()

    for _ in range(5):
        assert ask(way) > 0

    assert moments() == before


def test_after_retry_after_the_next_request_passes_and_not_a_second_before() -> None:
    redis, key = get_redis_connection("locks"), "rates:{test}:guest:1"
    for _ in range(3):
        ask()
    told_s = ask()
    first_us = moments()[0]
    seconds, micros = redis.time()

    assert told_s == math.ceil((first_us + 10 * SECOND_US - seconds * SECOND_US - micros) / 1e6)
    redis.lset(key, 0, first_us - (told_s - 1) * SECOND_US)
    assert ask() == 1
    redis.lset(key, 0, first_us - told_s * SECOND_US)
    assert ask() == 0


def test_keeps_only_what_it_needs_and_not_for_long() -> None:
    redis, key = get_redis_connection("locks"), "rates:{test}:guest:1"
    redis.rpush(key, 1, 2, 3, 4, 5, 6)

    ask()

    assert redis.llen(key) == 3
    assert 0 < redis.ttl(key) <= 10


def test_one_round_trip_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    ask()
    sent: list[Any] = []
    run = redis_scripts.run
    monkeypatch.setattr(redis_scripts, "run", lambda *a, **k: sent.append(k) or run(*a, **k))

    ask()

    assert len(sent) == 1
    assert len(sent[0]["keys"]) == 2


@pytest.mark.parametrize(
    ("one", "other", "counted_together"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_addresses_of_one_ipv6_network_are_one(
    one: str, other: str, counted_together: bool
) -> None:
    assert (rate_limits._network_of(one) == rate_limits._network_of(other)) is counted_together


def test_without_an_address_only_the_buyer_counts() -> None:
    """Behind a socket of the same machine everybody's address is empty."""
    assert [ask(buyer=f"guest:{number}", address="") for number in range(20)] == [0] * 20


# Redis lost


@pytest.fixture
def _no_breaker() -> Iterator[None]:
    yield
    rate_limits._breaker.answered()


@pytest.mark.usefixtures("_no_breaker")
def test_a_hanging_redis_lets_pass_and_costs_one_request_half_a_second(
    own_redis: OwnRedis, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    ask(way)
    own_redis.hang()

    begun = time.monotonic()
    answers = [ask(way) for _ in range(20)]
    took_s = time.monotonic() - begun
    own_redis.go_on()

    assert answers == [0] * 20
    assert 0.4 < took_s < 1.2
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "without rate limits" in errors[0].getMessage()


@pytest.mark.usefixtures("_no_breaker")
def test_limits_again_once_redis_is_back(
    own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    own_redis.kill()
    assert [ask() for _ in range(9)] == [0] * 9
    own_redis.start()
    assert [ask() for _ in range(9)] == [0] * 9, "it rests"

    later = time.monotonic() + rate_limits.REST_S
    monkeypatch.setattr("shop.redis_scripts.time.monotonic", lambda: later)

    assert [ask() for _ in range(4)][:3] == [0, 0, 0]
    assert ask() > 0
    assert [r.getMessage() for r in caplog.records].count("Redis answers again.") == 1


CROWD = 400
SLOW = "local wait = 0 for _ = 1, 200000 do end"
"""Some milliseconds, so that the last of a crowd waits for longer than Redis may be silent."""


@pytest.mark.usefixtures("_no_breaker")
def test_a_crowd_on_the_loop_is_counted_and_does_not_lift_the_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = redis_scripts._source("slide").replace("local wait = 0", SLOW)
    monkeypatch.setattr(redis_scripts, "_source", lambda name: slow)
    outcomes: Counter[str] = Counter()

    async def ask_once() -> None:
        try:
            await rate_limits.acheck("test", buyer="guest:1", address="192.0.2.1")
        except (RateLimited, StockBusy):
            outcomes["refused"] += 1
        else:
            outcomes["let through"] += 1

    async def ask_at_once() -> None:
        try:
            await asyncio.gather(*(ask_once() for _ in range(CROWD)))
        finally:
            await locks.close()

    asyncio.run(ask_at_once())

    assert outcomes == {"let through": 3, "refused": CROWD - 3}


@pytest.mark.usefixtures("_no_breaker")
def test_a_crowd_before_a_hanging_redis_waits_half_a_second_once(own_redis: OwnRedis) -> None:
    own_redis.hang()

    async def ask_at_once() -> float:
        started = time.monotonic()
        try:
            asked = (rate_limits.acheck("test", buyer="b", address="") for _ in range(300))
            await asyncio.gather(*asked)
        finally:
            await locks.close()
        return time.monotonic() - started

    took_s = asyncio.run(ask_at_once())

    assert took_s < 1.5


@pytest.mark.usefixtures("_no_breaker")
def test_after_a_rest_one_request_alone_tries_a_dead_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    breaker = redis_scripts.CircuitBreaker(rest_s=5, without_it="")
    now = 100.0
    monkeypatch.setattr("shop.redis_scripts.time.monotonic", lambda: now)
    breaker.failed(OSError())
    assert not breaker.may_ask()

    now = 105.0
    assert [breaker.may_ask() for _ in range(5)] == [True, False, False, False, False]


def test_is_off_without_redis_and_without_limits(settings: Settings) -> None:
    settings.RATE_LIMITS = {}
    assert [ask() for _ in range(9)] == [0] * 9
    settings.RATE_LIMITS = {"test": {"buyer": (1, 10), "address": (1, 10)}}
    settings.CACHES = {"default": settings.CACHES["default"]}
    assert [ask() for _ in range(9)] == [0] * 9


# Over HTTP


def buy(client: Client, **headers: str) -> Response:
    return client.post("/products/lamp/buy/", headers={**JSON, **headers})


@pytest.mark.django_db(transaction=True)
def test_tells_a_program_429_and_when_to_try_again(
    client: Client, make_product: MakeProduct, kind: str
) -> None:
    make_product()
    for _ in range(3):
        assert buy(client).status_code == 201

    response = buy(client)

    assert response.status_code == 429
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["code"] == "rate_limited"
    assert response.json()["status"] == 429
    assert 9 <= int(response["Retry-After"]) <= 10
    assert Order.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_offers_a_browser_the_same_purchase_again(
    client: Client, make_product: MakeProduct, kind: str
) -> None:
    make_product()
    for _ in range(3):
        buy(client)

    page = client.post("/products/lamp/buy/", {"key": "6b1f6f0e6d0c5f4e9d0a6a6c0e0f6d11"})

    assert page.status_code == 429
    assert int(page["Retry-After"]) >= 9
    text = page.content.decode()
    assert "That was too often" in text
    assert 'value="6b1f6f0e-6d0c-5f4e-9d0a-6a6c0e0f6d11"' in text


@pytest.mark.django_db(transaction=True)
def test_counts_an_address_over_all_its_guests(make_product: MakeProduct, kind: str) -> None:
    make_product()

    statuses = [buy(Client()).status_code for _ in range(6)]

    assert statuses == [201] * 5 + [429]


@pytest.mark.django_db(transaction=True)
def test_the_lab_is_never_limited_and_asks_no_redis(
    client: Client, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    make_product(is_lab=True)
    monkeypatch.setattr(rate_limits, "check", None)
    monkeypatch.setattr(rate_limits, "acheck", None)

    assert [buy(client).status_code for _ in range(8)] == [201] * 8


@pytest.mark.django_db(transaction=True)
def test_limits_looks_from_a_place_and_entries_apart(
    client: Client, make_product: MakeProduct, settings: Settings, kind: str
) -> None:
    make_product(admitted_per_minute=1)
    generous = {"buyer": (100, 10), "address": (100, 10)}
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "queue": generous}

    entered = [Client().get("/products/lamp/queue/", headers=JSON) for _ in range(4)]
    looks = [client.get("/products/lamp/queue/", headers=JSON).status_code for _ in range(20)]
    refused = Client().get("/products/lamp/queue/", headers=JSON)

    assert {response.status_code for response in entered} == {200}
    assert looks == [200] * 20, "the first was an entry, the others came from its place"
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    page = Client().get("/products/lamp/queue/")
    assert (page.status_code, "That was too often" in page.content.decode()) == (429, True)


@pytest.mark.django_db(transaction=True)
def test_a_queue_of_the_lab_is_not_limited(make_product: MakeProduct, kind: str) -> None:
    make_product(admitted_per_minute=1, is_lab=True)

    entered = [Client().get("/products/lamp/queue/", headers=JSON) for _ in range(9)]

    assert {response.status_code for response in entered} <= {200}


@pytest.mark.django_db(transaction=True)
def test_limits_posts_of_any_view_such_as_signing_in(client: Client) -> None:
    calls: list[str] = []

    @limited("sign_in")
    def sign_in(request: HttpRequest) -> HttpResponse:
        calls.append(str(request.method))
        return HttpResponse("signed in")

    factory = RequestFactory()
    answers = [sign_in(factory.post("/account/sign-in/", headers=JSON)) for _ in range(6)]
    looked = sign_in(factory.get("/account/sign-in/"))

    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert int(answers[-1]["Retry-After"]) >= 9
    assert (looked.status_code, calls) == (200, ["POST"] * 5 + ["GET"])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("door", ["/account/sign-in/", "/admin/login/"])
def test_limits_every_door_whatever_the_name_and_browser(door: str) -> None:
    statuses = [
        Client().post(door, {"username": f"u{number}@example.org", "password": "x"}).status_code
        for number in range(6)
    ]

    assert statuses == [200] * 5 + [429]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("form", ["/account/sign-up/", "/account/reset/"])
def test_mails_one_mailbox_only_so_often_and_says_the_same(settings: Settings, form: str) -> None:
    settings.RATE_LIMITS = {"mail": {"buyer": (2, 10)}}

    answers = [Client().post(form, {"email": "Ada@example.org"}) for _ in range(3)]
    Client().post(form, {"email": "bob@example.org"})

    assert len({answer["Location"] for answer in answers}) == 1
    assert [message.to for message in mail.outbox] == [
        ["ada@example.org"],
        ["ada@example.org"],
        ["bob@example.org"],
    ]


# Whose address


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "203.0.113.9", "10.0.0.1"),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "198.51.100.66, 203.0.113.9", "203.0.113.9"),
        (2, "198.51.100.66, 203.0.113.9, 10.0.0.7", "203.0.113.9"),
        (2, "203.0.113.9", "10.0.0.1"),
        (1, "", "10.0.0.1"),
        (1, "not an address", "10.0.0.1"),
        (1, "203.0.113.9,", "10.0.0.1"),
        (1, " 203.0.113.9 ", "203.0.113.9"),
        (1, "2001:db8::1", "2001:db8::1"),
        (1, "203.0.113.9:1234", "10.0.0.1"),
        (1, "1" * 5000, "10.0.0.1"),
    ],
)
def test_believes_the_trusted_proxies_and_nobody_else(
    settings: Settings, proxies: int, forwarded: str, address: str
) -> None:
    settings.TRUSTED_PROXIES = proxies
    request = RequestFactory().get("/", headers={"X-Forwarded-For": forwarded})
    request.META["REMOTE_ADDR"] = "10.0.0.1"

    assert client_address(request) == address


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("proxies", [0, 1])
def test_an_invented_address_gets_no_slots_of_its_own(
    make_product: MakeProduct, settings: Settings, proxies: int, kind: str
) -> None:
    make_product()
    settings.TRUSTED_PROXIES = proxies
    seen = ", 203.0.113.9" if proxies else ""

    statuses = [
        buy(Client(), **{"X-Forwarded-For": f"198.51.100.{number}{seen}"}).status_code
        for number in range(6)
    ]

    assert statuses == [201] * 5 + [429]


# Settings


def test_is_on_by_default_with_room_for_an_office() -> None:
    found = limits_with()

    assert found.pop("mail") == {"buyer": [5, 3600]}
    assert set(found) == {"buy", "sign_in", "queue_entry", "queue"}
    for limits in found.values():
        assert limits["address"][0] >= 10 * limits["buyer"][0]


def limits_with(**environment: str) -> dict[str, Any]:
    show = "import json; from shop import settings; print(json.dumps(settings.RATE_LIMITS))"
    finished = run(show, **{"SECRET_KEY": STRONG_KEY, **environment})
    assert finished.returncode == 0, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


def test_is_set_by_the_environment() -> None:
    assert limits_with(RATE_BUY_BUYER="7/60")["buy"]["buyer"] == [7, 60]
    assert limits_with(RATE_LIMITS="0") == {}


@pytest.mark.parametrize("rate", ["10", "0/10", "10/0", "ten/10", "-1/10"])
def test_refuses_a_rate_it_cannot_read(rate: str) -> None:
    refusal = last_line_of_refusal(SECRET_KEY="x", RATE_BUY_BUYER=rate)

    assert "RATE_BUY_BUYER is “requests/seconds”, like 10/10." in refusal
