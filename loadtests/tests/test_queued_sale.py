"""A whole sale through the waiting room: real clients, real servers, and people who push in."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from conftest import MakeProduct
from inventory.audit import audit, read_books
from inventory.models import Order, Product
from loadtests.answers import MOST_TRIES, TRY_AGAIN_S
from loadtests.processes import server
from loadtests.visitors import Visitor, arrive, ask, pass_the_room

pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.redis,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("_children_use_the_test_database"),
]
OPENS_IN_S = 4
PUSHY = 20
"""How many post without an admission, again and again."""


@dataclass
class Crowd:
    """What the clients were told, and by which cookies they are known."""

    host: str
    product: str
    within_s: float
    outcomes: Counter[str] = field(default_factory=Counter)
    winners: set[str] = field(default_factory=set)
    reused: Counter[object] = field(default_factory=Counter)
    pushed: Counter[object] = field(default_factory=Counter)
    over: threading.Event = field(default_factory=threading.Event)

    def buy(self) -> None:
        """Pass the room, buy, and try the admission once more."""
        visitor = pass_the_room(host=self.host, product=self.product, within_s=self.within_s)
        if visitor is None:
            self.outcomes["not let in"] += 1
            return
        outcome = self.ask(visitor)
        self.outcomes["sold" if outcome == "replayed" else str(outcome)] += 1
        if outcome in ("sold", "replayed"):
            self.winners.add(_guest(visitor))
            self.reused[self.ask(visitor)] += 1

    def push_in(self, visitor: Visitor) -> None:
        """Post without an admission until the sale is over."""
        while not self.over.wait(0.5):
            self.pushed[self.ask(visitor)] += 1

    def ask(self, visitor: Visitor) -> object:
        """Buy under a key of its own; as the page says, send it again while the shop is busy."""
        key = str(uuid.uuid4())
        outcome: object = None
        for _ in range(MOST_TRIES):
            outcome = ask(visitor, host=self.host, product=self.product, key=key)["outcome"]
            if outcome not in ("busy", "unknown"):
                break
            time.sleep(TRY_AGAIN_S)
        return outcome


def _guest(visitor: Visitor) -> str:
    cookies = dict(cookie.split("=", 1) for cookie in visitor.cookies.split("; "))
    return "guest:" + cookies["guest"].strip('"').split(":")[0]


def sell_through_the_room(host: str, product: Product, *, clients: int, within_s: float) -> Crowd:
    crowd = Crowd(host, product.slug, within_s)
    outsiders = list(arrive(host=host, product="other", count=PUSHY))
    pushing = [threading.Thread(target=crowd.push_in, args=[v]) for v in outsiders]
    buying = [threading.Thread(target=crowd.buy) for _ in range(clients)]
    for thread in pushing + buying:
        thread.start()
    for thread in buying:
        thread.join()
    crowd.over.set()
    for thread in pushing:
        thread.join()
    return crowd


def check(crowd: Crowd, product: Product, *, units: int, clients: int) -> None:
    orders = Order.objects.filter(product=product)
    assert crowd.outcomes["sold"] == orders.count() == units, crowd
    assert {order.buyer for order in orders} == crowd.winners
    assert crowd.outcomes.total() == clients
    assert set(crowd.pushed) <= {"not_open", "queue_required"}, crowd.pushed
    assert crowd.pushed["queue_required"] > 0
    assert set(crowd.reused) == {"queue_required"}, crowd.reused
    books = read_books(product.pk)
    assert audit(books) == []
    assert books.stock.available == 0


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_200_clients_buy_50_units_and_only_whom_the_room_let_in(
    make_product: MakeProduct, tmp_path: Path, kind: str
) -> None:
    make_product("other")
    product = make_product(
        units=50,
        admitted_per_minute=1200,
        limit_per_buyer=1,
        opens_at=timezone.now() + timedelta(seconds=OPENS_IN_S),
    )

    with server(log=tmp_path / "server.log", kind=kind) as host:
        crowd = sell_through_the_room(host, product, clients=200, within_s=60)

    check(crowd, product, units=50, clients=200)
    assert crowd.outcomes["sold_out"] == 0, "nobody is let in for nothing"


@pytest.mark.long
def test_1000_clients_buy_100_units_of_a_held_limited_queued_product(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    make_product("other")
    product = make_product(
        units=100,
        admitted_per_minute=1200,
        limit_per_buyer=1,
        hold_minutes=10,
        opens_at=timezone.now() + timedelta(seconds=20),
    )

    with server(log=tmp_path / "server.log", kind="asgi") as host:
        crowd = sell_through_the_room(host, product, clients=1000, within_s=180)

    check(crowd, product, units=100, clients=1000)
