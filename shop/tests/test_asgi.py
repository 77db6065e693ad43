"""The shop under ASGI: the same answers, on the event loop, with bounded connections."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlencode

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import clear_url_caches

import shop.urls
from conftest import MakeProduct
from inventory.audit import audit, read_books
from inventory.models import Order, Product
from inventory.purchases import aclose
from inventory.threads import NoThreadFree
from shop import buyers
from shop.serving import BoundedHandler
from shop.views import buying

pytestmark = pytest.mark.django_db(transaction=True)
T = TypeVar("T")


@pytest.fixture(autouse=True)
def _on_the_loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Choose the addresses' asynchronous views, as SERVER_KIND=asgi does at start-up."""
    with monkeypatch.context() as asgi:
        asgi.setattr(settings, "SERVER_KIND", "asgi")
        importlib.reload(shop.urls)
        clear_url_caches()
        yield
    importlib.reload(shop.urls)
    clear_url_caches()


@dataclass
class Reply:
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def json(self) -> Any:
        return json.loads(self.body)


class Visitor:
    """A browser or a program, without a network between it and the application."""

    def __init__(self, application: BoundedHandler) -> None:
        self.application = application
        self.cookies: dict[str, str] = {}

    async def get(self, path: str, **headers: str) -> Reply:
        return await self.send("GET", path, b"", **headers)

    async def post(self, path: str, fields: dict[str, Any], **headers: str) -> Reply:
        headers.setdefault("content_type", "application/x-www-form-urlencoded")
        return await self.send("POST", path, urlencode(fields).encode(), **headers)

    async def buy(self, product: Product, **fields: Any) -> Reply:
        page = await self.get(f"/products/{product.slug}/")
        token = re.search(rb'csrfmiddlewaretoken" value="([^"]+)', page.body)
        assert token is not None
        accept = fields.pop("accept", "application/json")
        fields = {"csrfmiddlewaretoken": token[1].decode(), **fields}
        return await self.post(f"/products/{product.slug}/buy/", fields, accept=accept)

    async def send(self, method: str, path: str, body: bytes, **headers: str) -> Reply:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"host": "localhost", "cookie": cookies, **headers}
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "server": ("localhost", 80),
            "client": ("127.0.0.1", 1),
            "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
        }
        reply = Reply()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = [(k.decode(), v.decode()) for k, v in message["headers"]]
            else:
                reply.body += message.get("body", b"")

        await self.application(scope, receive, send)
        for name, value in reply.headers:
            if name == "Set-Cookie":
                cookie, _, morsel = value.split(";")[0].partition("=")
                self.cookies[cookie] = morsel
        return reply


def serve(story: Callable[[BoundedHandler], Coroutine[Any, Any, T]]) -> T:
    """Run a story with an application of its own, in an event loop of its own."""

    async def told() -> T:
        try:
            return await story(BoundedHandler())
        finally:
            await aclose()

    return asyncio.run(told())


def visit(story: Callable[[Visitor], Coroutine[Any, Any, T]]) -> T:
    return serve(lambda application: story(Visitor(application)))


def test_sells_and_answers_as_under_wsgi(make_product: MakeProduct) -> None:
    product = make_product(units=3)

    async def story(visitor: Visitor) -> tuple[Reply, Reply]:
        key = uuid.uuid4()
        return await visitor.buy(product, key=key), await visitor.buy(product, key=key)

    first, again = visit(story)

    assert first.status == 201
    assert set(first.json()) == {"order", "status", "quantity", "stock_version", "available"}
    assert (again.status, again.header("Idempotent-Replayed")) == (200, "true")
    assert again.json() == first.json()
    assert again.header("X-Frame-Options") == "DENY", "the middleware was passed"


def test_sends_a_browser_to_its_order(make_product: MakeProduct) -> None:
    product = make_product(units=3)

    async def story(visitor: Visitor) -> tuple[Reply, Reply]:
        sold = await visitor.buy(product, accept="text/html")
        return sold, await visitor.get(sold.header("Location") or "")

    sold, order = visit(story)

    assert sold.status == 303
    assert (order.status, product.name.encode() in order.body) == (200, True)


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_refuses_as_under_wsgi(make_product: MakeProduct, accept: str) -> None:
    product = make_product(units=0)

    async def story(visitor: Visitor) -> tuple[Reply, Reply]:
        sold_out = await visitor.buy(product, accept=accept)
        return sold_out, await visitor.buy(product, accept=accept, quantity="none")

    sold_out, invalid = visit(story)

    assert (sold_out.status, invalid.status) == (409, 400)
    assert b"Sold out" in sold_out.body


def test_turns_away_a_post_without_its_token(make_product: MakeProduct) -> None:
    product = make_product(units=3)

    async def story(visitor: Visitor) -> Reply:
        return await visitor.post(f"/products/{product.slug}/buy/", {"quantity": 1})

    assert visit(story).status == 403
    assert not Order.objects.exists()


def test_turns_away_a_members_post_without_its_token(client: Client) -> None:
    """Its page is made on the event loop, where nobody can be asked who is signed in."""
    client.force_login(User.objects.create_user("ada"))

    async def story(visitor: Visitor) -> Reply:
        visitor.cookies["sessionid"] = client.cookies["sessionid"].value
        return await visitor.post("/products/lamp/buy/", {"quantity": 1})

    reply = visit(story)

    assert reply.status == 403
    assert b"Reload it" in reply.body


def test_knows_a_signed_in_buyer(make_product: MakeProduct, client: Client) -> None:
    product = make_product(units=3)
    user = User.objects.create_user("ada")
    client.force_login(user)

    async def story(visitor: Visitor) -> Reply:
        visitor.cookies["sessionid"] = client.cookies["sessionid"].value
        return await visitor.buy(product)

    assert visit(story).status == 201
    assert Order.objects.get().buyer == f"user:{user.pk}"


def test_forgets_a_session_that_is_gone(make_product: MakeProduct) -> None:
    product = make_product(units=3)

    async def story(visitor: Visitor) -> Reply:
        visitor.cookies["sessionid"] = "of-yesterday"
        return await visitor.buy(product)

    assert visit(story).status == 201
    assert Order.objects.get().buyer.startswith("guest:")


def test_serves_pages_files_and_errors(make_product: MakeProduct) -> None:
    make_product(units=3)

    async def story(visitor: Visitor) -> list[Reply]:
        paths = ["/", "/healthz", "/readyz", "/admin/login/", "/static/shop/shop.css", "/nothing/"]
        return [await visitor.get(path) for path in paths]

    replies = visit(story)

    assert [reply.status for reply in replies] == [200, 200, 200, 200, 200, 404]
    assert b"{" in replies[4].body


def test_signs_the_operator_in_whose_session_is_written_in_a_thread() -> None:
    User.objects.create_superuser("operator", password="secret")

    async def story(visitor: Visitor) -> tuple[Reply, Reply]:
        page = await visitor.get("/admin/login/")
        token = re.search(rb'csrfmiddlewaretoken" value="([^"]+)', page.body)
        assert token is not None
        fields = {"username": "operator", "password": "secret", "next": "/admin/"}
        fields["csrfmiddlewaretoken"] = token[1].decode()
        return await visitor.post("/admin/login/", fields), await visitor.get("/admin/")

    signed_in, desk = visit(story)

    assert (signed_in.status, desk.status) == (302, 200)


def connections_to_the_test_database() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE()")
        count: int = cursor.fetchone()[0]
        return count


@pytest.mark.mariadb
def test_1000_clients_at_once_stay_within_the_configured_connections(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "ASYNC_CONNECTIONS", 3)
    monkeypatch.setattr(settings, "ASYNC_THREADS", 4)
    product = make_product(units=1000, strategy="conditional_update")
    peak = 0

    async def story(application: BoundedHandler) -> Counter[int]:
        nonlocal peak
        shopper = Visitor(application)
        await shopper.buy(product)

        async def client(number: int) -> int:
            if number % 2:
                return (await shopper.get("/")).status
            token = shopper.cookies["csrftoken"]
            fields = {"csrfmiddlewaretoken": token, "key": uuid.uuid4()}
            path = f"/products/{product.slug}/buy/"
            return (await shopper.post(path, fields, accept="application/json")).status

        clients = [asyncio.create_task(client(number)) for number in range(1000)]
        while not all(task.done() for task in clients):
            peak = max(peak, await asyncio.to_thread(watch))
            await asyncio.sleep(0.01)
        return Counter(task.result() for task in clients)

    def watch() -> int:
        try:
            return connections_to_the_test_database() - 1
        finally:
            connection.close()

    before = connections_to_the_test_database() - 1
    answers = serve(story)

    assert set(answers) <= {200, 201, 503}, answers
    assert (answers[200], answers[201]) > (0, 0)
    assert 1 < peak - before - 1 <= 3 + 4
    books = read_books(product.pk)
    assert audit(books) == []
    assert len(books.orders) == answers[201] + 1


def test_a_client_that_leaves_while_its_sale_is_made_leaves_it_whole(
    make_product: MakeProduct,
) -> None:
    product = make_product(units=500)

    async def story(application: BoundedHandler) -> int:
        shopper = Visitor(application)
        await shopper.buy(product)
        token = shopper.cookies["csrftoken"]
        for steps in range(100):
            fields = {"csrfmiddlewaretoken": token, "key": uuid.uuid4()}
            path = f"/products/{product.slug}/buy/"
            task = asyncio.create_task(shopper.post(path, fields, accept="application/json"))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        return (await shopper.buy(product)).status

    assert serve(story) == 201
    assert audit(read_books(product.pk)) == []


def test_starts_and_ends_with_its_worker() -> None:
    sent: list[str] = []

    async def story(application: BoundedHandler) -> None:
        messages = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> dict[str, str]:
            return {"type": next(messages)}

        async def send(message: dict[str, str]) -> None:
            sent.append(message["type"])

        await application({"type": "lifespan"}, receive, send)

    serve(story)

    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_a_member_is_told_busy_when_no_thread_is_free_to_know_him(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch, accept: str
) -> None:
    product = make_product()
    client = Client()
    client.force_login(User.objects.create_user("ada"))

    async def no_thread(*args: object) -> object:
        raise NoThreadFree

    async def story(visitor: Visitor) -> Reply:
        await visitor.get("/products/lamp/")
        visitor.cookies["sessionid"] = client.cookies["sessionid"].value
        monkeypatch.setattr(buyers, "in_thread", no_thread)
        return await visitor.buy(product, accept=accept)

    reply = visit(story)

    assert (reply.status, reply.header("Retry-After")) == (503, "1")
    assert not Order.objects.exists()


def test_a_refusal_without_a_thread_for_its_page_is_told_as_busy(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(units=0)

    async def no_thread(*args: object) -> object:
        raise NoThreadFree

    monkeypatch.setattr(buying, "in_thread", no_thread)

    async def story(visitor: Visitor) -> Reply:
        return await visitor.buy(product, accept="text/html")

    reply = visit(story)

    assert (reply.status, reply.header("Retry-After")) == (503, "1")
