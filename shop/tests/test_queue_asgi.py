"""The waiting room behind the handler that gunicorn's asgi worker runs: nothing blocks the loop."""

from __future__ import annotations

import re

import pytest
from pytest_django import Settings

from conftest import MakeProduct
from inventory.models import Order
from inventory.threads import NoThreadFree, in_thread
from shop.tests.test_asgi import Reply, Visitor, _on_the_loop, visit
from shop.views import waiting

pytestmark = [pytest.mark.redis, pytest.mark.django_db(transaction=True)]
__all__ = ["_on_the_loop"]
ROOM, PAGE = "/products/lamp/queue/", "/products/lamp/"


def test_enters_waits_is_let_in_and_buys(make_product: MakeProduct) -> None:
    product = make_product(admitted_per_minute=60_000)

    async def story(visitor: Visitor) -> list[Reply]:
        outside = await visitor.get(PAGE)
        page = await visitor.get(ROOM, accept="text/html")
        bought = await visitor.buy(product)
        return [outside, page, bought, await visitor.get(ROOM, accept="application/json")]

    outside, room, bought, again = visit(story)

    assert b"Enter the waiting room" in outside.body
    assert (room.status, room.header("Location")) == (303, PAGE)
    assert bought.status == 201
    assert again.json()["state"] == "admitted", "anew, since there is room"
    assert Order.objects.count() == 1


def test_a_look_runs_on_the_loop_and_a_page_in_a_thread(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_product(admitted_per_minute=1)
    in_threads: list[object] = []

    async def watched(work: object, *args: object) -> object:
        in_threads.append(work)
        return await in_thread(work, *args)  # type: ignore[arg-type]  # any work

    monkeypatch.setattr(waiting, "in_thread", watched)

    async def story(visitor: Visitor) -> list[Reply]:
        await Visitor(visitor.application).get(ROOM)
        page = await visitor.get(ROOM, accept="text/html")
        pages = len(in_threads)
        looks = [
            await visitor.get(ROOM, accept="text/html", hx_request="true"),
            await visitor.get(ROOM, accept="application/json"),
        ]
        assert len(in_threads) == pages
        return [page, *looks]

    page, fragment, told = visit(story)

    assert re.search(rb"<h1>Waiting room</h1>", page.body)
    assert b"You are number <strong>1</strong>" in page.body
    assert b"You are number <strong>1</strong>" in fragment.body
    assert b"<html" not in fragment.body
    assert told.json()["place"] == 1
    assert len(in_threads) == 2


def test_is_busy_when_no_thread_is_free_for_the_page(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_product(admitted_per_minute=1)

    async def no_thread(*args: object) -> object:
        raise NoThreadFree

    monkeypatch.setattr(waiting, "in_thread", no_thread)

    async def story(visitor: Visitor) -> Reply:
        return await visitor.get(ROOM, accept="text/html")

    reply = visit(story)

    assert (reply.status, reply.header("Retry-After")) == (503, "1")


def test_limits_on_the_loop_too(make_product: MakeProduct, settings: Settings) -> None:
    product = make_product()
    settings.RATE_LIMITS = {"buy": {"buyer": (2, 10), "address": (100, 10)}}

    async def story(visitor: Visitor) -> list[int]:
        return [(await visitor.buy(product)).status for _ in range(3)]

    assert visit(story) == [201, 201, 429]
