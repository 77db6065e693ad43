"""What a client can do wrong on the wire, against the shop as gunicorn serves it."""

from __future__ import annotations

import gzip
import http.client
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlencode

import pytest
from django.db import connection

from conftest import MakeProduct
from inventory.audit import audit, read_books
from inventory.models import Order, Product, Stock
from shop.tests.servers import APPLICATIONS, Answer, RealShop, Wire

pytestmark = pytest.mark.django_db(transaction=True)

BODY_WAIT_S = 1.0
SOON_S = 1.0
"""The promise after the end of what was sent."""
MEGABYTE = 1024 * 1024
BUY = "/products/{}/buy/"


@pytest.fixture(scope="module", params=APPLICATIONS)
def shop(
    request: pytest.FixtureRequest,
    django_db_setup: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RealShop]:
    log = tmp_path_factory.mktemp("shop") / "log"
    shop = RealShop(request.param, log, BODY_WAIT_S=str(BODY_WAIT_S))
    shop.start()
    yield shop
    shop.stop()


@pytest.fixture
def product(make_product: MakeProduct) -> Product:
    """A product of this test alone: the shop remembers terms for a second."""
    return make_product(f"lamp-{uuid.uuid4().hex[:12]}", units=10)


def assert_nothing_sold(product: Product) -> None:
    assert Stock.objects.get(product=product).available == 10
    assert not Order.objects.exists()


def send(
    shop: RealShop, product: Product, body: bytes, *more: str, **changes: str | None
) -> Answer:
    """Send this body with its length (unless the headers say otherwise), as a buyer would."""
    headers = {**shop.visit(product.slug), "Content-Length": str(len(body))}
    for name, value in changes.items():
        headers.pop(name.replace("_", "-"), None)
        if value is not None:
            headers[name.replace("_", "-")] = value
    with Wire(shop) as wire:
        wire.begin(BUY.format(product.slug), headers, *more)
        wire.write(body)
        return wire.answer()


def assert_shop_is_well(shop: RealShop, product: Product) -> None:
    """Another buyer is served at once."""
    answer = send(shop, product, b"quantity=1")
    assert (answer.status, answer.took_s < SOON_S) == (201, True)


# Bodies that are refused as soon as they are there

BODIES: dict[str, tuple[bytes, str]] = {
    "json": (b'{"quantity": 3}', "application/json"),
    "deep json": (b"[" * 10_000, "application/json"),
    "a type that nobody can read": (b"quantity=3", "text/html; x*=klingon''y"),
    "no known type": (b"quantity=3", "application/x-anything"),
    "invalid utf-8": (b"quantity=\xff\xfe\xfd", "application/x-www-form-urlencoded"),
    "quantity twice": (b"quantity=1&quantity=2", "application/x-www-form-urlencoded"),
    "a million digits": (b"quantity=" + b"1" * 60_000, "application/x-www-form-urlencoded"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_is_refused_at_once(shop: RealShop, product: Product, name: str) -> None:
    body, content_type = BODIES[name]

    answer = send(shop, product, body, Content_Type=content_type)

    assert (answer.status, answer.took_s < SOON_S) == (400, True), answer.text
    assert '"code": "invalid"' in answer.text
    assert_nothing_sold(product)


def test_a_browser_that_only_looks_where_it_bought_is_taken_to_the_product(
    shop: RealShop, product: Product
) -> None:
    status, headers, _ = shop.get(BUY.format(product.slug))

    assert (status, headers["Location"]) == (303, f"/products/{product.slug}/")


def test_a_bomb_is_not_unpacked(shop: RealShop, product: Product) -> None:
    bomb = gzip.compress(b"quantity=1&a=" + b"0" * 50 * MEGABYTE)
    before = shop.memory_bytes()

    answer = send(shop, product, bomb, Content_Encoding="gzip")

    assert (answer.status, answer.took_s < SOON_S) == (415, True), answer.text
    assert shop.memory_bytes() - before < 4 * MEGABYTE
    assert_nothing_sold(product)


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_a_long_body_is_refused_before_it_is_taken_in(
    shop: RealShop, product: Product, content_type: str
) -> None:
    body = (
        b"--x\r\nContent-Disposition: form-data; name=a; filename=a\r\n\r\n" + b"a" * 10 * MEGABYTE
    )
    send(shop, product, body, Content_Type=content_type)
    before = shop.memory_bytes()

    answers = [send(shop, product, body, Content_Type=content_type) for _ in range(5)]

    assert {answer.status for answer in answers} == {413}
    assert max(answer.took_s for answer in answers) < SOON_S
    assert shop.memory_bytes() - before < 4 * MEGABYTE
    assert_nothing_sold(product)


def test_a_long_body_without_a_length_is_refused_too(shop: RealShop, product: Product) -> None:
    chunks = b"2000\r\n" + b"a" * 8192 + b"\r\n"
    before = shop.memory_bytes()

    answer = send(shop, product, chunks * 1280, Content_Length=None, Transfer_Encoding="chunked")

    assert (answer.status, answer.took_s < SOON_S) == (411, True), answer.text
    assert shop.memory_bytes() - before < 4 * MEGABYTE
    assert_nothing_sold(product)


def test_a_short_body_in_chunks_is_not_taken_for_none(shop: RealShop, product: Product) -> None:
    chunks = b"a\r\nquantity=3\r\n0\r\n\r\n"

    answer = send(shop, product, chunks, Content_Length=None, Transfer_Encoding="chunked")

    assert (answer.status, answer.took_s < SOON_S) == (411, True), answer.text
    assert_nothing_sold(product)


@pytest.mark.parametrize(
    "more",
    [
        ("Content-Length: 11",),
        ("Transfer-Encoding: chunked",),
        ("Transfer-Encoding: chunked, identity",),
        ("Content-Length : 10",),
        ("Content-Length: +10",),
    ],
)
def test_a_length_said_in_two_ways_is_refused(
    shop: RealShop, product: Product, more: tuple[str]
) -> None:
    """What one server takes for the next request, another takes for a body."""
    answer = send(shop, product, b"quantity=1", *more)

    assert answer.status in (400, 411, 501, None), answer.text
    assert answer.took_s < SOON_S
    assert_nothing_sold(product)


# Bodies that do not come


def test_a_body_cut_off_is_not_taken_for_a_shorter_one(shop: RealShop, product: Product) -> None:
    headers = {**shop.visit(product.slug), "Content-Length": "12"}

    with Wire(shop) as wire:
        wire.begin(BUY.format(product.slug), headers)
        wire.write(b"quantity=1")
        wire.half_close()
        answer = wire.answer()

    assert answer.status in (400, None), answer.text
    assert answer.took_s < SOON_S + BODY_WAIT_S
    assert_nothing_sold(product)


@pytest.mark.parametrize("sent", [b"", b"quantity=1"], ids=["nothing", "a part"])
def test_a_client_that_stalls_is_given_up(shop: RealShop, product: Product, sent: bytes) -> None:
    headers = {**shop.visit(product.slug), "Content-Length": "12"}

    with Wire(shop) as wire:
        wire.begin(BUY.format(product.slug), headers)
        wire.write(sent)
        answer = wire.answer()

    assert answer.status == 400, answer.text
    assert '"code": "incomplete"' in answer.text
    assert BODY_WAIT_S * 0.9 < answer.took_s < BODY_WAIT_S + SOON_S
    assert_nothing_sold(product)
    assert_shop_is_well(shop, product)


POSTED = [
    "/account/sign-in/",
    "/account/sign-up/",
    "/account/password/",
    "/account/reset/",
    f"/orders/{uuid.UUID(int=0)}/pay/",
    f"/orders/{uuid.UUID(int=0)}/cancel/",
    "/payments/simulated/confirm/",
    "/i18n/setlang/",
]
"""As many as the shop has threads."""


def test_no_address_waits_longer_for_a_body_nor_asks_the_database_meanwhile(
    shop: RealShop, product: Product
) -> None:
    headers = {**shop.visit(product.slug), "Content-Length": "12"}
    time.sleep(0.05)
    started = time.monotonic()

    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(shop)) for _ in POSTED]
        for wire, path in zip(wires, POSTED, strict=True):
            wire.begin(path, headers)
            wire.write(b"a=1")
        if connection.vendor == "mysql":
            time.sleep(BODY_WAIT_S / 2)
            assert idle_s() > time.monotonic() - started
        answers = [wire.answer() for wire in wires]

    assert [answer.status for answer in answers] == [400] * len(POSTED)
    assert all('"code": "incomplete"' in answer.text for answer in answers)
    assert time.monotonic() - started < BODY_WAIT_S + SOON_S


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "in chunks"])
def test_a_client_that_sends_a_byte_now_and_then_is_given_up_as_soon(
    shop: RealShop, product: Product, chunked: bool
) -> None:
    length = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": "5000"}
    started = time.monotonic()

    with Wire(shop) as wire:
        wire.begin(BUY.format(product.slug), shop.visit(product.slug) | length)
        wire.write(b"1000\r\n" if chunked else b"")
        wire.drip(every_s=0.1)
        answer = wire.answer()

    assert answer.status == (411 if chunked else 400), answer.text
    assert time.monotonic() - started < BODY_WAIT_S + SOON_S
    assert_nothing_sold(product)


def test_clients_that_stall_leave_the_shop_to_the_others(shop: RealShop, product: Product) -> None:
    """As many as there are threads: they wait no longer than a body may take."""
    headers = {**shop.visit(product.slug), "Content-Length": "12"}

    with ExitStack() as stack:
        for _ in range(16):
            wire = stack.enter_context(Wire(shop))
            wire.begin(BUY.format(product.slug), headers)
        started = time.monotonic()
        status, _, _ = shop.get("/healthz")

    assert status == 200
    assert time.monotonic() - started < 2 * (BODY_WAIT_S + SOON_S)


def idle_s() -> float:
    """For how long no connection to the database, but this one, has been given anything to do."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT MIN(IF(command = 'Sleep', time_ms, 0)) / 1000"
            " FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        )
        return float(cursor.fetchone()[0])


@pytest.mark.mariadb
def test_a_client_that_stalls_gives_the_database_nothing_to_do(
    shop: RealShop, product: Product
) -> None:
    """And so it can hold no transaction."""
    headers = {**shop.visit(product.slug), "Content-Length": "12"}
    time.sleep(0.05)
    started = time.monotonic()

    with ExitStack() as stack:
        for _ in range(5):
            wire = stack.enter_context(Wire(shop))
            wire.begin(BUY.format(product.slug), headers)
            wire.write(b"quantity=1")
        time.sleep(BODY_WAIT_S / 2)
        assert idle_s() > time.monotonic() - started

    assert send(shop, product, b"quantity=1").status == 201
    assert idle_s() < BODY_WAIT_S / 2, "a sale is seen"


# One buyer, a thousand times


def test_1000_tries_of_one_buyer_each_get_a_definite_answer(
    shop: RealShop, make_product: MakeProduct
) -> None:
    """100 at a time, each key twice at once, of 500 units that there are and 300 for one buyer."""
    product = make_product(f"lamp-{uuid.uuid4().hex[:12]}", units=500, limit_per_buyer=300)
    headers = shop.visit(product.slug)
    keys = [key for _ in range(500) for key in [str(uuid.uuid4())] * 2]
    answers: Counter[int] = Counter()
    start = threading.Barrier(100)

    def buy_ten(mine: list[str]) -> None:
        client = http.client.HTTPConnection("127.0.0.1", shop.port, timeout=60)
        start.wait()
        for key in mine:
            body = urlencode({"key": key})
            client.request("POST", BUY.format(product.slug), body, headers)
            response = client.getresponse()
            response.read()
            answers[response.status] += 1
        client.close()

    threads = [threading.Thread(target=buy_ten, args=(keys[n::100],)) for n in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers.total() == 1000, "nobody was left without an answer"
    assert set(answers) <= {200, 201, 409, 503}, answers
    books = read_books(product.pk)
    assert audit(books) == []
    assert len(books.orders) == answers[201] == 300
    assert_shop_is_well(shop, product)


CROWD = 500


def test_a_crowd_that_comes_at_once_waits_in_line_and_is_not_turned_away(shop: RealShop) -> None:
    """A connection that finds the line full is tried again after 1, 3, 7 and 15 seconds."""
    with shop.kept_busy(), ExitStack() as crowd:
        for _ in range(CROWD):
            client = socket.create_connection(("127.0.0.1", shop.port), timeout=SOON_S)
            crowd.enter_context(client)
