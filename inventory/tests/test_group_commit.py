"""Buyers who arrive together: what they share, and what they never do to each other."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import (
    DataError,
    IntegrityError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.test.utils import CaptureQueriesContext

from conftest import Buy, MakeProduct
from inventory import ledger, retries
from inventory.audit import audit, read_books
from inventory.errors import KeyReused, LimitReached, OutcomeUnknown, SoldOut, StockBusy
from inventory.ledger import PurchaseRequest, Receipt
from inventory.models import Movement, Order, Product, Stock
from inventory.strategies import STRATEGIES, group_commit
from inventory.strategies.group_commit import GroupCommit

pytestmark = pytest.mark.django_db(transaction=True)

WAIT_S = 20


@pytest.fixture(autouse=True)
def _patient_and_without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gives up because the machine is slow; who shall give up is told so."""
    monkeypatch.setattr(group_commit, "JOIN_WAIT_S", WAIT_S)
    monkeypatch.setattr(retries, "PAUSE_CAP_S", 0)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def mysql(code: int) -> OperationalError:
    return OperationalError(code, "as the driver says it")


class Visit(threading.Thread):
    """One buyer in a thread of its own, with what it asked for and what it was told."""

    def __init__(self, sell: Callable[[PurchaseRequest], Receipt], request: PurchaseRequest):
        super().__init__(name=request.buyer, daemon=True)
        self.sell = sell
        self.request = request
        self.answer: Receipt | BaseException | None = None
        self.left_connected = True

    def run(self) -> None:
        try:
            self.answer = self.sell(self.request)
        except BaseException as error:
            self.answer = error
        finally:
            self.left_connected = connection.connection is not None
            connection.close()

    @property
    def receipt(self) -> Receipt:
        assert isinstance(self.answer, Receipt), f"{self.name} was told {self.answer!r}"
        return self.answer

    @property
    def told(self) -> tuple[int | None, int | None]:
        """The version and the units available after it, as the receipt says."""
        return self.receipt.stock_version, self.receipt.available


class Shop:
    """
    One product, sold in groups, with a record of every transaction begun.

    A leader who is held stays inside its transaction, its group's orders written,
    until it is let go; then it may meet an error there.
    """

    def __init__(self, product: Product, strategy: GroupCommit) -> None:
        self.product = product
        self.strategy = strategy
        self.transactions: list[list[str]] = []
        self.leaders: list[str] = []
        self.commits: list[str] = []
        self.errors: dict[str, BaseException] = {}
        self.visits: list[Visit] = []
        self._inside: dict[str, threading.Event] = {}
        self._let_go: dict[str, threading.Event] = {}
        self._place_orders = ledger.place_orders

    def place_orders(self, requests: Sequence[PurchaseRequest], *, attempts: int) -> list[Order]:
        """Stand in for the ledger's, with a place to hold and to fail at."""
        leader = threading.current_thread().name
        self.transactions.append([request.buyer for request in requests])
        self.leaders.append(leader)
        orders = self._place_orders(requests, attempts=attempts)
        if leader in self._inside:
            self._inside[leader].set()
            assert self._let_go[leader].wait(WAIT_S)
        if leader in self.errors:
            raise self.errors.pop(leader)
        return orders

    def wish(self, buyer: str, **fields: Any) -> PurchaseRequest:
        values: dict[str, Any] = {
            "product_id": self.product.pk,
            "quantity": 1,
            "buyer": buyer,
            "key": uuid.uuid4(),
            "unit_price": self.product.price,
            "strategy": "group_commit",
        }
        return PurchaseRequest(**(values | fields))

    def sell(self, buyer: str, **fields: Any) -> Receipt:
        return self.strategy.sell(self.wish(buyer, **fields))

    def hold(self, leader: str) -> None:
        self._inside[leader] = threading.Event()
        self._let_go[leader] = threading.Event()

    def is_inside(self, leader: str) -> bool:
        return self._inside[leader].wait(WAIT_S)

    def let_go(self, leader: str) -> None:
        self._let_go[leader].set()

    def comes(self, buyer: str, **fields: Any) -> Visit:
        """Let a buyer come, without a look at what becomes of it."""
        visit = Visit(self.strategy.sell, self.wish(buyer, **fields))
        self.visits.append(visit)
        visit.start()
        return visit

    def leads(self, buyer: str, **fields: Any) -> Visit:
        """Let a buyer come to nobody, and hold it at work."""
        self.hold(buyer)
        visit = self.comes(buyer, **fields)
        assert self.is_inside(buyer)
        return visit

    def queues(self, buyer: str, **fields: Any) -> Visit:
        """Let a buyer come behind a leader at work, and see it in the queue."""
        before = self.waiting()
        visit = self.comes(buyer, **fields)
        eventually(lambda: self.waiting() == before + 1)
        return visit

    def waiting(self) -> int:
        return len(self.strategy._threads._queues.get(self.product.pk, ()))

    def closes(self) -> None:
        """Let everyone go, and see them out."""
        for event in self._let_go.values():
            event.set()
        for visit in self.visits:
            visit.join(2 * WAIT_S)
            assert not visit.is_alive(), f"{visit.name} was never answered"

    def books_agree(self) -> bool:
        return audit(read_books(self.product.pk)) == []


OpenShop = Callable[..., Shop]


@pytest.fixture
def open_shop(make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenShop]:
    shops: list[Shop] = []

    def open_one(units: int = 100, *, strategy: GroupCommit | None = None) -> Shop:
        product = make_product(units=units, strategy="group_commit")
        shop = Shop(product, strategy or GroupCommit())
        monkeypatch.setattr(ledger, "place_orders", shop.place_orders)
        wrapper = type(connections["default"])
        commit = wrapper._commit

        def counted(self: Any) -> None:
            commit(self)
            shop.commits.append(threading.current_thread().name)

        monkeypatch.setattr(wrapper, "_commit", counted)
        shops.append(shop)
        return shop

    yield open_one
    for shop in shops:
        shop.closes()


class Door:
    """A mutex that stops one thread when it comes to it for the second time."""

    def __init__(self, *, stops: str) -> None:
        self.stops = stops
        self.reached = threading.Event()
        self.opened = threading.Event()
        self._visits = 0
        self._mutex = threading.Lock()

    def __enter__(self) -> None:
        if threading.current_thread().name == self.stops:
            self._visits += 1
            if self._visits == 2:
                self.reached.set()
                assert self.opened.wait(WAIT_S)
        self._mutex.acquire()

    def __exit__(self, *exc: object) -> None:
        self._mutex.release()


class TestTheGroup:
    def test_buyers_who_queue_while_a_leader_is_at_work_share_one_transaction(
        self, open_shop: OpenShop
    ) -> None:
        shop = open_shop(units=100)
        lea = shop.leads("lea")
        shop.hold("ada")
        queue = [shop.queues(name, quantity=n) for n, name in enumerate(("ada", "bob", "cyd"), 1)]

        shop.let_go("lea")
        assert shop.is_inside("ada")
        lea.join(WAIT_S)
        assert [visit.answer for visit in queue] == [None] * 3, "nobody is told before the commit"
        shop.closes()

        assert shop.transactions == [["lea"], ["ada", "bob", "cyd"]]
        assert shop.commits == ["lea", "ada"]
        assert lea.told == (2, 99)
        assert [visit.told for visit in queue] == [(3, 98), (4, 96), (5, 93)]
        for visit in queue:
            order = Order.objects.get(reference=visit.receipt.order)
            assert (order.buyer, order.key) == (visit.name, visit.request.key)
            assert order.quantity == visit.receipt.quantity == visit.request.quantity
        assert shop.books_agree()

    def test_serves_64_at_once_in_the_order_of_arrival_and_then_the_next_leads(
        self, open_shop: OpenShop
    ) -> None:
        shop = open_shop(units=100)
        shop.leads("lea")
        queue = [shop.queues(f"buyer-{n}") for n in range(70)]

        shop.closes()

        assert [len(buyers) for buyers in shop.transactions] == [1, 64, 6]
        assert shop.leaders == shop.commits == ["lea", "buyer-0", "buyer-64"]
        assert [visit.told for visit in queue] == [(3 + n, 98 - n) for n in range(70)]
        assert shop.strategy._threads._queues == {}, "an empty queue keeps no memory"
        assert shop.books_agree()

    def test_buyers_of_the_shop_itself_are_not_kept_apart_by_its_turnstile(
        self, open_shop: OpenShop, buy: Buy
    ) -> None:
        strategy = STRATEGIES["group_commit"]
        assert isinstance(strategy, GroupCommit)
        shop = open_shop(strategy=strategy)
        buy(shop.product)  # so that the terms are in memory
        shop.transactions.clear()
        shop.strategy = _Shopping(shop, buy)
        shop.leads("lea")
        for name in ("ada", "bob"):
            shop.queues(name)

        shop.closes()

        assert shop.transactions == [["lea"], ["ada", "bob"]]

    @pytest.mark.mariadb
    def test_buyers_of_another_product_have_a_queue_of_their_own(
        self, open_shop: OpenShop, make_product: MakeProduct
    ) -> None:
        shop, vase = open_shop(), make_product("vase", units=3)
        shop.leads("lea")

        sold = shop.comes("ada", product_id=vase.pk)
        sold.join(WAIT_S)

        assert sold.told == (2, 2)
        shop.closes()
        assert shop.books_agree()

    def test_a_lone_buyer_waits_for_nobody(
        self, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop = open_shop()

        def wait(*args: object, **kwargs: object) -> None:
            pytest.fail("a lone buyer waited")

        with monkeypatch.context() as patched:
            patched.setattr(time, "sleep", wait)
            shop.sell("ada")

        assert shop.transactions == [["ada"]]
        assert len(shop.commits) == 1

    def test_a_lone_buyer_costs_no_more_statements_than_a_conditional_update(
        self, open_shop: OpenShop
    ) -> None:
        shop = open_shop()
        statements = {}
        for name in ("conditional_update", "group_commit"):
            STRATEGIES[name].sell(shop.wish("warm"))
            with CaptureQueriesContext(connection) as queries:
                STRATEGIES[name].sell(shop.wish("ada"))
            statements[name] = [query["sql"].split()[0] for query in queries]

        assert statements["group_commit"] == statements["conditional_update"]
        assert statements["group_commit"].count("COMMIT") == 1


class _Shopping(GroupCommit):
    """The registry's group commit, entered by the shop's own door."""

    def __init__(self, shop: Shop, buy: Buy) -> None:
        super().__init__()
        self._threads = shop.strategy._threads
        self._buy, self._product = buy, shop.product

    def sell(self, request: PurchaseRequest) -> Receipt:
        return self._buy(self._product, buyer=request.buyer, key=request.key)


class TestEachItsOwnAnswer:
    @pytest.mark.parametrize(
        ("poison", "error"),
        [
            ({"unit_price": Decimal("NaN")}, ValidationError),
            pytest.param({"buyer": "x" * 49}, DataError, marks=pytest.mark.mariadb),
        ],
    )
    def test_whatever_the_others_of_the_group_ask_for(
        self, open_shop: OpenShop, poison: dict[str, Any], error: type[Exception]
    ) -> None:
        shop = open_shop(units=10)
        key = {name: uuid.uuid4() for name in ("cyd", "dan", "eve")}
        shop.sell("bob", quantity=2, limit=3)
        earlier = shop.sell("cyd", key=key["cyd"])
        shop.sell("dan", key=key["dan"])
        shop.leads("lea")
        fine = shop.queues("ada", quantity=2)
        over_the_limit = shop.queues("bob", quantity=2, limit=3)
        again = shop.queues("cyd", key=key["cyd"])
        reused = shop.queues("dan", key=key["dan"], quantity=2)
        twins = [shop.queues("eve", key=key["eve"]) for _ in range(2)]
        too_many = shop.queues("fay", quantity=50)
        poisoned = shop.queues(**({"buyer": "gus"} | poison))
        at_the_limit = shop.queues("hal", limit=1)

        shop.closes()

        assert len(shop.transactions[4]) == 9, "they were one group"
        assert fine.told == (6, 3)
        assert isinstance(over_the_limit.answer, LimitReached)
        assert over_the_limit.answer.limit == 3
        assert (again.receipt.order, again.receipt.replayed) == (earlier.order, True)
        assert isinstance(reused.answer, KeyReused)
        assert {twin.told for twin in twins} == {(7, 2)}
        assert len({twin.receipt.order for twin in twins}) == 1
        assert sorted(twin.receipt.replayed for twin in twins) == [False, True]
        assert isinstance(too_many.answer, SoldOut)
        assert too_many.answer.available == 2
        assert isinstance(poisoned.answer, error)
        assert at_the_limit.told == (8, 1)
        assert Order.objects.count() == 7
        assert shop.books_agree()

    def test_two_purchases_of_one_buyer_in_one_group_count_against_the_limit_together(
        self, open_shop: OpenShop
    ) -> None:
        shop = open_shop(units=10)
        shop.leads("lea")
        visits = [shop.queues("ada", quantity=2, limit=3) for _ in range(2)]
        other = shop.queues("bob", quantity=3, limit=3)

        shop.closes()

        assert visits[0].told == (3, 7)
        assert isinstance(visits[1].answer, LimitReached)
        assert other.told == (4, 4)
        assert shop.books_agree()

    def test_exactly_the_stock_is_sold_when_it_ends_in_the_middle_of_a_group(
        self, open_shop: OpenShop
    ) -> None:
        shop = open_shop(units=6)
        shop.leads("lea")
        queue = [shop.queues(f"buyer-{n}", quantity=n) for n in (2, 2, 3, 1, 1)]

        shop.closes()

        two, too, three, one, none = queue
        assert [two.told, too.told, one.told] == [(3, 3), (4, 1), (5, 0)]
        assert isinstance(three.answer, SoldOut)
        assert three.answer.available == 1
        assert isinstance(none.answer, SoldOut)
        assert none.answer.available == 0
        assert Stock.objects.get().available == 0
        assert shop.books_agree()

    @pytest.mark.parametrize(("units", "quantity"), [(1, 1), (3, 3)])
    def test_a_group_of_losers_costs_one_transaction(
        self, open_shop: OpenShop, units: int, quantity: int
    ) -> None:
        shop = open_shop(units=units)
        shop.leads("lea")
        queue = [shop.queues(f"buyer-{n}", quantity=quantity + n % 2) for n in range(8)]

        shop.closes()

        assert [len(buyers) for buyers in shop.transactions] == [1, 8]
        assert shop.commits == ["lea"]
        for visit in queue:
            assert isinstance(visit.answer, SoldOut)
            assert visit.answer.available == units - 1
        assert len({id(visit.answer) for visit in queue}) == 8, "an error has one traceback"
        assert Order.objects.count() == 1
        assert shop.books_agree()


class TestGivingUp:
    def test_who_was_not_taken_along_in_time_is_busy_and_never_sold_to(
        self, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop = open_shop(units=10)
        lea = shop.leads("lea")
        monkeypatch.setattr(group_commit, "JOIN_WAIT_S", 0.01)

        ada = shop.comes("ada")
        ada.join(WAIT_S)
        assert isinstance(ada.answer, StockBusy)
        assert shop.waiting() == 0
        shop.closes()

        assert lea.told == (2, 9)
        assert Order.objects.get().buyer == "lea"
        assert shop.sell("bob").available == 8, "and the lead was not given to who had left"
        assert shop.books_agree()

    def test_who_is_given_the_lead_while_giving_up_takes_it(
        self, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Otherwise nobody would have it, and everyone behind would wait for ever."""
        shop = open_shop(units=10)
        door = Door(stops="ada")
        monkeypatch.setattr(shop.strategy._threads, "_mutex", door)
        lea = shop.leads("lea")
        monkeypatch.setattr(group_commit, "JOIN_WAIT_S", 0.01)
        ada = shop.queues("ada")
        assert door.reached.wait(WAIT_S)

        shop.let_go("lea")
        lea.join(WAIT_S)
        door.opened.set()
        shop.closes()

        assert ada.told == (3, 8)
        assert shop.strategy._threads._queues == {}

    def test_who_gives_up_after_it_was_taken_along_finds_its_order_by_its_key(
        self, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop = open_shop(units=10)
        door = Door(stops="bob")
        monkeypatch.setattr(shop.strategy._threads, "_mutex", door)
        shop.leads("lea")
        shop.hold("ada")
        ada = shop.queues("ada")
        monkeypatch.setattr(group_commit, "JOIN_WAIT_S", 0.01)
        monkeypatch.setattr(group_commit, "ANSWER_WAIT_S", 0.01)
        bob = shop.queues("bob")
        assert door.reached.wait(WAIT_S)
        shop.let_go("lea")
        assert shop.is_inside("ada")

        door.opened.set()
        bob.join(WAIT_S)

        assert isinstance(bob.answer, OutcomeUnknown)
        shop.closes()
        assert ada.told == (3, 8)
        replay = shop.strategy.sell(bob.request)
        assert (replay.replayed, replay.stock_version, replay.available) == (True, 4, 7)
        assert shop.books_agree()

    def test_a_full_queue_is_busy_at_once(
        self, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop = open_shop(units=10)
        monkeypatch.setattr(shop.strategy._threads, "_longest_queue", 2)
        shop.leads("lea")
        queue = [shop.queues(name) for name in ("ada", "bob")]

        late = shop.comes("cyd")
        late.join(WAIT_S / 4)

        assert isinstance(late.answer, StockBusy)
        assert shop.waiting() == 2
        shop.closes()
        assert [visit.told for visit in queue] == [(3, 8), (4, 7)]


class TestTheLeadersDeath:
    def test_leaves_its_group_in_doubt_and_the_lead_to_the_next(self, open_shop: OpenShop) -> None:
        shop = open_shop(units=10)
        lea = shop.leads("lea")
        shop.hold("ada")
        shop.errors["ada"] = SystemExit(1)
        ada, bob, cyd = (shop.queues(name) for name in ("ada", "bob", "cyd"))
        shop.let_go("lea")
        assert shop.is_inside("ada")
        dan = shop.queues("dan")

        shop.closes()

        assert isinstance(ada.answer, SystemExit)
        assert isinstance(bob.answer, OutcomeUnknown)
        assert isinstance(cyd.answer, OutcomeUnknown)
        assert (lea.told, dan.told) == ((2, 9), (3, 8))
        assert set(Order.objects.values_list("buyer", flat=True)) == {"lea", "dan"}
        assert shop.strategy.sell(bob.request).available == 7, "its key was never used"
        assert shop.books_agree()

    def test_with_nobody_behind_leaves_the_shop_open(self, open_shop: OpenShop) -> None:
        shop = open_shop(units=10)
        shop.errors["lea"] = SystemExit(1)
        lea = shop.comes("lea")
        lea.join(WAIT_S)

        assert isinstance(lea.answer, SystemExit)
        assert shop.strategy._threads._queues == {}
        assert shop.sell("ada").available == 9

    def test_takes_back_nothing_that_was_committed(self, open_shop: OpenShop) -> None:
        """It dies between the halves: the first half was sold to, and is told so."""
        shop = open_shop(units=10)
        shop.leads("lea")
        shop.hold("ada")
        shop.errors["ada"] = mysql(1213)
        ada, bob, cyd, dan = (shop.queues(name) for name in ("ada", "bob", "cyd", "dan"))
        sell = shop.place_orders

        def die_in_the_second_half(
            requests: Sequence[PurchaseRequest], *, attempts: int
        ) -> list[Order]:
            orders = sell(requests, attempts=attempts)
            if [request.buyer for request in requests] == ["cyd", "dan"]:
                raise SystemExit(1)
            return orders

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(ledger, "place_orders", die_in_the_second_half)
            shop.closes()

        assert isinstance(ada.answer, SystemExit)
        assert bob.told == (4, 7)
        assert isinstance(cyd.answer, OutcomeUnknown)
        assert isinstance(dan.answer, OutcomeUnknown)
        assert set(Order.objects.values_list("buyer", flat=True)) == {"lea", "ada", "bob"}
        assert shop.books_agree()


class TestWhenTheDatabaseFails:
    @pytest.mark.parametrize("committed", [True, False])
    def test_a_commit_whose_answer_is_lost_leaves_all_in_doubt_and_their_keys_know(
        self, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch, *, committed: bool
    ) -> None:
        shop = open_shop(units=10)
        wrapper = type(connections["default"])
        commit = wrapper._commit

        def lost(self: Any) -> None:
            if threading.current_thread().name != "ada":
                commit(self)
                return
            if committed:
                commit(self)
            else:
                self._rollback()
            raise mysql(2013)

        shop.leads("lea")
        queue = [shop.queues(name) for name in ("ada", "bob", "cyd")]
        with monkeypatch.context() as patched:
            patched.setattr(wrapper, "_commit", lost)
            shop.closes()

        assert shop.transactions == [["lea"], ["ada", "bob", "cyd"]]
        assert [type(visit.answer) for visit in queue] == [OutcomeUnknown] * 3
        assert not queue[0].left_connected, "the broken connection is not used again"
        replays = [shop.strategy.sell(visit.request) for visit in queue]
        assert {replay.replayed for replay in replays} == {committed}
        assert [replay.available for replay in replays] == [8, 7, 6]
        assert Order.objects.count() == 4
        assert shop.books_agree()

    @pytest.mark.mariadb
    def test_a_connection_killed_at_the_commit_leaves_all_in_doubt(
        self, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The real thing: the server kills the leader's connection."""
        shop = open_shop(units=10)
        wrapper = type(connections["default"])
        commit = wrapper._commit

        def killed(self: Any) -> None:
            if threading.current_thread().name == "ada":
                rival = connections["default"].copy()
                with rival.cursor() as cursor:
                    cursor.execute(f"KILL {self.connection.thread_id()}")
                rival.close()
            commit(self)

        shop.leads("lea")
        queue = [shop.queues(name) for name in ("ada", "bob")]
        with monkeypatch.context() as patched:
            patched.setattr(wrapper, "_commit", killed)
            shop.closes()

        assert [type(visit.answer) for visit in queue] == [OutcomeUnknown] * 2
        assert [shop.strategy.sell(visit.request).available for visit in queue] == [8, 7]
        assert shop.books_agree()

    @pytest.mark.parametrize("code", [1205, 2006, 1317, 1021])
    def test_an_outage_makes_the_whole_group_busy_after_one_try(
        self, open_shop: OpenShop, code: int
    ) -> None:
        """Sixteen buyers in an outage must not wait for the row sixteen times over."""
        shop = open_shop(units=100)
        shop.leads("lea")
        shop.errors["buyer-0"] = mysql(code)
        queue = [shop.queues(f"buyer-{n}") for n in range(16)]

        shop.closes()

        assert [len(buyers) for buyers in shop.transactions] == [1, 16]
        assert [type(visit.answer) for visit in queue] == [StockBusy] * 16
        assert not queue[0].left_connected
        assert Order.objects.count() == 1
        assert shop.sell("late").available == 98
        assert shop.books_agree()

    @pytest.mark.mariadb
    def test_a_row_held_by_another_costs_a_group_one_lock_wait(
        self, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The real thing: somebody else holds the stock row, and never commits."""
        shop = open_shop(units=100)
        place_orders = shop.place_orders

        def wait_a_second_at_most(
            requests: Sequence[PurchaseRequest], *, attempts: int
        ) -> list[Order]:
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
            return place_orders(requests, attempts=attempts)

        monkeypatch.setattr(ledger, "place_orders", wait_a_second_at_most)
        lea = shop.leads("lea")
        shop.hold("ada")
        queue = [shop.queues(name) for name in ("ada", "bob", "cyd", "dan")]
        shop.let_go("lea")
        lea.join(WAIT_S)
        assert shop.is_inside("ada")

        with transaction.atomic():
            Stock.objects.select_for_update().get(product_id=shop.product.pk)
            shop.closes()

        assert shop.transactions == [["lea"], ["ada", "bob", "cyd", "dan"]]
        assert [type(visit.answer) for visit in queue] == [StockBusy] * 4
        assert Order.objects.get().buyer == "lea"
        assert shop.books_agree()

    def test_a_deadlock_halves_the_group_and_sells(self, open_shop: OpenShop) -> None:
        shop = open_shop(units=100)
        shop.leads("lea")
        shop.errors["ada"] = mysql(1213)
        queue = [shop.queues(name) for name in ("ada", "bob", "cyd", "dan")]

        shop.closes()

        assert shop.transactions[1:] == [
            ["ada", "bob", "cyd", "dan"],
            ["ada", "bob"],
            ["cyd", "dan"],
        ]
        assert [visit.told for visit in queue] == [(3 + n, 98 - n) for n in range(4)]
        assert shop.books_agree()

    def test_a_movement_in_the_way_takes_the_whole_group_back(self, open_shop: OpenShop) -> None:
        """The units are taken by then, and the orders written."""
        shop = open_shop(units=10)
        Movement.objects.create(
            product=shop.product,
            version=4,
            kind=Movement.Kind.CORRECTION,
            delta=0,
            available_after=8,
        )
        shop.leads("lea")
        ada, bob = shop.queues("ada"), shop.queues("bob")

        shop.closes()

        assert shop.transactions == [["lea"], ["ada", "bob"], ["ada"], ["bob"]]
        assert ada.told == (3, 8), "alone, it is not in the way"
        assert isinstance(bob.answer, IntegrityError)
        assert (Stock.objects.get().available, Order.objects.count()) == (8, 2)


class TestOutageInAPart:
    def test_ends_the_waiting_for_all_that_must_still_be_tried(
        self, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One replayed key splits the group; the row's holder must not cost a wait per part."""
        shop = open_shop(units=10)
        asked: list[int] = []

        def fail(requests: Sequence[PurchaseRequest], attempt: int) -> list[Receipt]:
            asked.append(len(requests))
            code = 1062 if len(requests) == 8 else 1205
            raise OperationalError(code, "as the driver says it")

        monkeypatch.setattr(shop.strategy, "_sell_together", fail)
        requests = [
            PurchaseRequest(
                product_id=shop.product.pk,
                quantity=1,
                buyer=f"guest:{number}",
                key=uuid.uuid4(),
                unit_price=shop.product.price,
                strategy="group_commit",
            )
            for number in range(8)
        ]

        answers = shop.strategy.sell_all(requests)

        assert asked == [8, 4]
        assert [type(answer) for answer in answers] == [StockBusy] * 8

    def test_a_follower_inside_a_transaction_is_refused_like_a_leader(
        self, open_shop: OpenShop
    ) -> None:
        shop = open_shop(units=10)
        with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
            shop.sell("ada")
        assert shop.strategy._threads._queues == {}
