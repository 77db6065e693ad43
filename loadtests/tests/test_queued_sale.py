"""A whole sale through the waiting room: real clients, real servers, and people who push in."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from conftest import MakeProduct
from inventory.audit import audit, read_books
from inventory.clock import DatabaseNow
from inventory.holds import release_expired
from inventory.models import Movement, Order, Product
from loadtests.answers import MOST_TRIES, TRY_AGAIN_S
from loadtests.processes import server
from loadtests.visitors import Visitor, arrive, ask, pass_the_room, pay

pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.redis,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("_children_use_the_test_database"),
]
OPENS_IN_S = 4
PUSHY = 20
"""How many post without an admission, again and again."""
RELEASERS = 2


@dataclass
class Crowd:
    """What the clients were told, and by which cookies they are known."""

    host: str
    product: str
    within_s: float
    stays: bool = False
    """Whether they wait on when all is sold, for what comes back."""
    outcomes: Counter[str] = field(default_factory=Counter)
    bought: dict[str, Visitor] = field(default_factory=dict)
    reused: Counter[object] = field(default_factory=Counter)
    pushed: Counter[object] = field(default_factory=Counter)
    over: threading.Event = field(default_factory=threading.Event)

    def buy(self) -> None:
        """Pass the room, buy, and try the admission once more."""
        visitor = pass_the_room(
            host=self.host,
            product=self.product,
            within_s=self.within_s,
            until=self.over if self.stays else None,
        )
        if visitor is None:
            self.outcomes["not let in"] += 1
            return
        outcome, order = self.ask(visitor)
        self.outcomes["sold" if outcome == "replayed" else str(outcome)] += 1
        if outcome in ("sold", "replayed"):
            self.bought[str(order)] = visitor
            self.reused[self.ask(visitor)[0]] += 1

    def push_in(self, visitor: Visitor) -> None:
        """Post without an admission until the sale is over."""
        while not self.over.wait(0.5):
            self.pushed[self.ask(visitor)[0]] += 1

    def ask(self, visitor: Visitor) -> tuple[object, object]:
        """Buy under a key of its own; as the page says, send it again while the shop is busy."""
        key = str(uuid.uuid4())
        told: dict[str, object] = {}
        for _ in range(MOST_TRIES):
            told = ask(visitor, host=self.host, product=self.product, key=key)
            if told["outcome"] not in ("busy", "unknown"):
                break
            time.sleep(TRY_AGAIN_S)
        return told["outcome"], told["order"]

    def wait_until_sold(self, orders: int) -> None:
        """Wait until so many have bought."""
        deadline = time.monotonic() + self.within_s
        while len(self.bought) < orders:
            assert time.monotonic() < deadline, self
            time.sleep(0.1)


def guest(visitor: Visitor) -> str:
    cookies = dict(cookie.split("=", 1) for cookie in visitor.cookies.split("; "))
    return "guest:" + cookies["guest"].strip('"').split(":")[0]


@contextmanager
def at_once(works: list[Callable[[], object]]) -> Iterator[None]:
    """Do all of it beside the block, and wait until it is done."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()


@contextmanager
def pushing_in(crowd: Crowd) -> Iterator[None]:
    """Let others post without an admission beside the block."""
    outsiders = list(arrive(host=crowd.host, product="other", count=PUSHY))
    with at_once([lambda v=v: crowd.push_in(v) for v in outsiders]):  # type: ignore[misc]
        try:
            yield
        finally:
            crowd.over.set()


def pay_for(crowd: Crowd, orders: list[str]) -> None:
    """Let each buyer pay for his order."""
    paid = [pay(crowd.bought[order], host=crowd.host, order=order) for order in orders]
    assert all(paid)


def let_expire(product: Product) -> int:
    """Have the time of what is held be over, and several release it; how many orders they did."""
    held = Order.objects.filter(product=product, status=Order.Status.HELD)
    held.update(expires_at=DatabaseNow())
    released: list[int] = []
    with at_once([lambda: released.append(release_all())] * RELEASERS):
        pass
    return sum(released)


def release_all() -> int:
    count = 0
    try:
        while now := release_expired(limit=10):
            count += now
    finally:
        connection.close()
    return count


def check_the_others(crowd: Crowd) -> None:
    """Who had no admission, or one used up, bought nothing."""
    assert set(crowd.pushed) <= {"not_open", "queue_required"}, crowd.pushed
    assert crowd.pushed["queue_required"] > 0
    assert set(crowd.reused) == {"queue_required"}, crowd.reused


def check_books(product: Product) -> None:
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
        crowd = Crowd(host, product.slug, within_s=60)
        with pushing_in(crowd), at_once([crowd.buy] * 200):
            pass

    orders = Order.objects.filter(product=product)
    assert crowd.outcomes["sold"] == orders.count() == 50, crowd
    assert {order.buyer for order in orders} == {guest(v) for v in crowd.bought.values()}
    assert crowd.outcomes.total() == 200
    assert crowd.outcomes["sold_out"] == 0, "nobody is let in for nothing"
    check_the_others(crowd)
    check_books(product)


def check_sold_again(crowd: Crowd, product: Product, paid: set[str], unpaid: set[str]) -> None:
    """All units are held or paid for, and what was not paid for in time is others' now."""
    orders = {str(o.reference): o for o in Order.objects.filter(product=product)}
    by_status = {s: {r for r, o in orders.items() if o.status == s} for s in Order.Status}
    again = set(crowd.bought) - paid - unpaid
    assert set(orders) == set(crowd.bought)
    assert by_status[Order.Status.EXPIRED] == unpaid
    assert by_status[Order.Status.PAID] == paid
    assert by_status[Order.Status.HELD] == again
    assert len(again) == len(unpaid)
    buyers = Counter(order.buyer for order in orders.values())
    assert set(buyers.values()) == {1}
    assert set(buyers) == {guest(v) for v in crowd.bought.values()}
    back = Movement.objects.filter(product=product, kind=Movement.Kind.EXPIRY)
    assert Counter(str(m.order_id) for m in back) == dict.fromkeys(unpaid, 1)


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
@pytest.mark.parametrize(
    ("clients", "units"), [(200, 20), pytest.param(1000, 100, marks=pytest.mark.long)]
)
def test_what_a_held_limited_queued_sale_was_not_paid_for_is_sold_again_to_who_waits(
    make_product: MakeProduct, tmp_path: Path, kind: str, clients: int, units: int
) -> None:
    make_product("other")
    product = make_product(
        units=units,
        admitted_per_minute=300,
        limit_per_buyer=1,
        hold_minutes=10,
        opens_at=timezone.now() + timedelta(seconds=OPENS_IN_S * clients / 200),
    )

    with server(log=tmp_path / "server.log", kind=kind) as host:
        crowd = Crowd(host, product.slug, within_s=180, stays=True)
        with at_once([crowd.buy] * clients), pushing_in(crowd):
            crowd.wait_until_sold(units)
            held = sorted(crowd.bought)
            paid, unpaid = set(held[::2]), set(held[1::2])
            pay_for(crowd, sorted(paid))
            assert let_expire(product) == len(unpaid)
            crowd.wait_until_sold(units + len(unpaid))

    assert crowd.outcomes == {
        "sold": units + len(unpaid),
        "not let in": clients - len(crowd.bought),
    }
    check_sold_again(crowd, product, paid, unpaid)
    check_the_others(crowd)
    check_books(product)
