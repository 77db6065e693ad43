"""The consumers of the counter's queues, and what their deaths and outages may not cost."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections
from django_redis import get_redis_connection
from pytest_django import Settings

from conftest import Buy, MakeProduct, drain
from inventory import consumer, counter, ledger, purchases, retries, terms
from inventory.audit import audit, read_books
from inventory.consumer import Consumer, products_with_queues
from inventory.counter import Entry
from inventory.errors import KeyReused, SoldOut, TicketNotFound
from inventory.ledger import ACCEPTED, PurchaseRequest, Receipt
from inventory.models import Movement, Order, Product, Stock
from inventory.purchases import purchase
from inventory.strategies.group_commit import GroupCommit
from inventory.tests.conftest import StartConsumer
from inventory.tests.races import Crowd, race_in_processes
from inventory.tests.servers import OwnRedis
from inventory.tests.test_retries import lose_the_answer_to_the_first_commit
from inventory.tickets import redeem

pytestmark = [pytest.mark.redis, pytest.mark.django_db(transaction=True)]

ADA = "guest:ada"


@pytest.fixture(autouse=True)
def _no_memory_of_sold_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that every purchase asks the counter."""
    monkeypatch.setattr(purchases._sold_out, "_for_s", 0.0)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PAUSE_CAP_S", 0)


@pytest.fixture
def product(make_product: MakeProduct) -> Product:
    product = make_product(units=10, strategy="redis_counter")
    counter.open_queue(product.pk)
    return product


def ask(
    product: Product, *, quantity: int = 1, buyer: str | None = None, key: uuid.UUID | None = None
) -> Receipt:
    """Buy up to the ticket: nothing is committed."""
    buyer = buyer or f"guest:{uuid.uuid4().hex}"
    return purchase(slug=product.slug, quantity=quantity, buyer=buyer, key=key or uuid.uuid4())


def ask_each(product: Product, *buyers: str) -> list[Receipt]:
    return [ask(product, buyer=buyer) for buyer in buyers]


def status_of(product: Product, ticket: Receipt, buyer: str = ADA) -> str:
    """The ticket's word: accepted, confirmed, or the refusal's name."""
    try:
        return redeem(slug=product.slug, reference=ticket.order, buyer=buyer).status
    except (SoldOut, KeyReused) as refusal:
        return type(refusal).__name__


def stream_of(product: Product) -> str:
    return f"counter:{{{product.pk}}}:stream"


def queue(product: Product, **fields: str | bytes) -> None:
    """Put an entry on the stream by hand, with some fields changed (or, when empty, missing)."""
    right: dict[str, str | bytes] = {
        "buyer": "guest:eve",
        "key": uuid.uuid4().hex,
        "quantity": "1",
        "reference": uuid.uuid4().hex,
        "unit_price": "12.50",
        "epoch": counter.count(product.pk).epoch,
    }
    entry = {name: value for name, value in {**right, **fields}.items() if value != ""}
    get_redis_connection("locks").xadd(stream_of(product), entry)


def buyers() -> list[str]:
    return sorted(Order.objects.values_list("buyer", flat=True))


def put(product: Product, **fields: int) -> None:
    get_redis_connection("locks").hset(f"counter:{{{product.pk}}}", mapping=fields)


def assert_agrees(product: Product) -> None:
    """The counter says what the database has; nothing is on its way; the books are clean."""
    assert counter.on_their_way(product.pk) == 0
    available = Stock.objects.get(product_id=product.pk).available
    assert counter.count(product.pk).agrees_with(available), counter.count(product.pk)
    assert audit(read_books(product.pk)) == []


def fail_for(monkeypatch: pytest.MonkeyPatch, error: Exception, *, buyer: str = "") -> None:
    """Let orders fail: the buyer's, or everyone's."""
    place = ledger.place_orders

    def failing(requests: list[PurchaseRequest], *, attempts: int) -> list[Order]:
        if not buyer or any(request.buyer == buyer for request in requests):
            raise error
        return place(requests, attempts=attempts)

    monkeypatch.setattr(ledger, "place_orders", failing)


# A batch


def test_commits_a_batch_in_one_transaction_and_takes_it_off_the_queue(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = uuid.uuid4()
    first = ask(product, quantity=3, buyer=ADA, key=key)
    ask_each(product, "guest:b", "guest:c")
    commits = []
    commit = type(connections["default"])._commit

    def counted(self: Any) -> None:
        commits.append(True)
        commit(self)

    monkeypatch.setattr(type(connections["default"]), "_commit", counted)

    assert Consumer("one").commit_new(product) == 3

    assert len(commits) == 1
    order = Order.objects.get(buyer=ADA)
    assert (order.reference, order.key, order.quantity) == (first.order, key, 3)
    assert (order.strategy, order.unit_price) == ("redis_counter", Decimal("12.50"))
    sales = Movement.objects.filter(kind=Movement.Kind.SALE).order_by("version")
    assert [(sale.delta, sale.version) for sale in sales] == [(-3, 2), (-1, 3), (-1, 4)]
    assert Consumer("one").commit_new(product) == 0
    assert_agrees(product)


def test_sells_at_the_price_that_was_accepted(product: Product) -> None:
    ask(product, buyer=ADA)
    Product.objects.update(price=Decimal("99.00"))

    drain(Product.objects.get())

    assert Order.objects.get().unit_price == Decimal("12.50")


def test_commits_no_more_than_a_batch_at_once(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "LARGEST_BATCH", 2)
    ask_each(product, "guest:a", "guest:b", "guest:c")

    assert [Consumer("one").commit_new(product) for _ in range(3)] == [2, 1, 0]

    assert buyers() == ["guest:a", "guest:b", "guest:c"]


def test_sells_in_the_order_in_which_the_purchases_were_accepted(
    make_product: MakeProduct,
) -> None:
    product = make_product(units=2, strategy="redis_counter")
    first = ask(product, buyer="guest:1")
    put(product, left=5)
    ask_each(product, "guest:2", "guest:3", "guest:4")

    drain(product)

    assert buyers() == ["guest:1", "guest:2"]
    assert status_of(product, first, "guest:1") == "confirmed"


def test_leads_to_the_order_that_the_key_had_made_before(product: Product, buy: Buy) -> None:
    """By another strategy, of which the counter knows nothing."""
    key = uuid.uuid4()
    Product.objects.update(strategy="group_commit")
    terms.forget()
    earlier = buy(product, buyer=ADA, key=key)
    Product.objects.update(strategy="redis_counter")
    terms.forget()

    ticket = ask(product, buyer=ADA, key=key)
    drain(product)

    found = redeem(slug=product.slug, reference=ticket.order, buyer=ADA)
    assert ticket.status == ACCEPTED
    assert (found.order, found.status) == (earlier.order, "confirmed")
    assert Order.objects.count() == 1
    assert_agrees(product)


@pytest.mark.parametrize("other", ["quantity", "product"])
def test_refuses_a_key_that_had_bought_something_else(
    product: Product, make_product: MakeProduct, buy: Buy, other: str
) -> None:
    key = uuid.uuid4()
    vase = make_product("vase")
    if other == "product":
        buy(vase, buyer=ADA, key=key)
    else:
        Product.objects.update(strategy="group_commit")
        terms.forget()
        buy(product, quantity=2, buyer=ADA, key=key)
        Product.objects.update(strategy="redis_counter")
        terms.forget()

    ticket = ask(product, buyer=ADA, key=key)
    bystander = ask(product, buyer="guest:eve")
    drain(product)

    assert status_of(product, ticket) == "KeyReused"
    assert status_of(product, bystander, "guest:eve") == "confirmed"
    assert_agrees(product)


def test_works_on_queues_left_from_when_a_product_was_sold_by_the_counter(
    product: Product, make_product: MakeProduct
) -> None:
    make_product("vase")
    ask(product)
    Product.objects.update(strategy="group_commit")

    assert products_with_queues() == [product]

    drain(product)
    assert products_with_queues() == []
    Product.objects.filter(pk=product.pk).update(strategy="redis_counter")
    assert products_with_queues() == [product]


# Healing


@pytest.mark.parametrize("wrong", [0, 3, 12, -4])
def test_heals_a_counter_that_is_too_high_or_too_low(product: Product, wrong: int) -> None:
    ask(product)
    drain(product)
    epoch = counter.count(product.pk).epoch
    put(product, left=wrong)

    consumer.heal(product)

    assert_agrees(product)
    assert counter.count(product.pk).epoch != epoch


def test_heals_a_counter_that_counts_purchases_which_are_not_there(product: Product) -> None:
    ask(product)
    drain(product)
    put(product, pending=3)

    consumer.heal(product)

    assert_agrees(product)


def test_leaves_a_counter_alone_that_is_right(product: Product) -> None:
    ask(product)
    drain(product)
    before = counter.count(product.pk)

    consumer.heal(product)

    assert counter.count(product.pk) == before


def test_makes_no_counter_before_somebody_buys(product: Product) -> None:
    consumer.heal(product)

    assert counter.count(product.pk) == counter.Count()


def test_does_not_heal_over_a_purchase_made_meanwhile(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(product)
    drain(product)
    put(product, left=3)
    read = consumer.read_stock

    def read_and_sell(product_id: int) -> Stock:
        stock = read(product_id)
        ask(product)
        drain(product)
        return stock

    monkeypatch.setattr(consumer, "read_stock", read_and_sell)
    consumer.heal(product)

    assert counter.count(product.pk).left == "2", "what was read is old: nothing was set"
    monkeypatch.undo()
    consumer.heal(product)
    assert_agrees(product)


# Entries that nobody can sell


@pytest.mark.parametrize(
    "fields",
    [
        {"buyer": ""},
        {"key": "no key"},
        {"quantity": "many"},
        {"quantity": ""},
        {"reference": ""},
        {"unit_price": "free"},
        {"epoch": ""},
        {"buyer": b"\xff\xfe"},
        {"epoch": b"\xff"},
    ],
    ids=str,
)
@pytest.mark.parametrize("way", ["new", "taken over"])
def test_an_entry_that_cannot_be_read_stops_nobody_and_raises_an_alarm(
    product: Product, caplog: pytest.LogCaptureFixture, fields: dict[str, str | bytes], way: str
) -> None:
    ask(product, buyer="guest:a")
    queue(product, **fields)
    ask(product, buyer="guest:b")

    if way == "taken over":
        get_redis_connection("locks").xreadgroup("consumers", "dead", {stream_of(product): ">"})
        Consumer("one").take_over(product, idle_ms=0)
    else:
        Consumer("one").commit_new(product)

    assert buyers() == ["guest:a", "guest:b"]
    assert "is no purchase" in caplog.text
    assert_agrees(product)


@pytest.mark.parametrize("quantity", ["0", "-5"])
def test_an_entry_for_nothing_or_less_is_not_sold(
    product: Product, caplog: pytest.LogCaptureFixture, quantity: str
) -> None:
    ask(product, buyer="guest:a")
    queue(product, quantity=quantity)
    ask(product, buyer="guest:b")

    drain(product)

    assert buyers() == ["guest:a", "guest:b"]
    assert "is no purchase" in caplog.text, "and never came to the database"
    assert_agrees(product)


@pytest.mark.mariadb
def test_an_entry_that_the_database_cannot_hold_stops_nobody(
    product: Product, caplog: pytest.LogCaptureFixture
) -> None:
    """A buyer longer than the column (SQLite holds any)."""
    ask(product, buyer="guest:a")
    queue(product, buyer="guest:" + "e" * 60)
    ask(product, buyer="guest:b")

    Consumer("one").commit_new(product)

    assert buyers() == ["guest:a", "guest:b"]
    assert "stays in the queue" in caplog.text
    assert counter.on_their_way(product.pk) == 1
    ask(product, buyer="guest:c")
    Consumer("one").take_over(product, idle_ms=0)
    Consumer("one").commit_new(product)
    assert buyers() == ["guest:a", "guest:b", "guest:c"]
    assert audit(read_books(product.pk)) == []


@pytest.mark.parametrize(
    "error",
    [
        OperationalError(1205, "Lock wait timeout exceeded"),
        OperationalError(1317, "Query execution was interrupted"),
        OperationalError(1064, "no such code in the table"),
        RuntimeError("a bug"),
    ],
    ids=str,
)
def test_a_failure_of_one_purchase_keeps_it_in_the_queue_and_stops_nobody(
    product: Product,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    """Nobody is harmed but in the batch that is told to try again as a whole."""
    tickets = ask_each(product, "guest:a", ADA, "guest:c")

    with monkeypatch.context() as failing:
        fail_for(failing, error, buyer=ADA)
        Consumer("one").commit_new(product)
    assert status_of(product, tickets[1]) == ACCEPTED
    assert ADA not in buyers()
    assert "stays in the queue" in caplog.text
    if not isinstance(error, OperationalError) or error.args[0] == 1064:
        assert buyers() == ["guest:a", "guest:c"]

    Consumer("two").take_over(product, idle_ms=0)

    assert buyers() == ["guest:a", ADA, "guest:c"]
    assert status_of(product, tickets[1]) == "confirmed"
    assert_agrees(product)


# The database's outages


@pytest.mark.parametrize("code", [1205, 1040, 2003, 2013, 1213, 1290])
def test_a_busy_or_unavailable_database_leaves_the_queue_as_it_is(
    product: Product, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    tickets = ask_each(product, ADA, "guest:b", "guest:c")

    with monkeypatch.context() as outage:
        fail_for(outage, OperationalError(code, "as the driver says it"))
        Consumer("one").commit_new(product)

    assert not Order.objects.exists()
    assert counter.on_their_way(product.pk) == 3
    assert status_of(product, tickets[0]) == ACCEPTED
    Consumer("one").take_over(product, idle_ms=0)
    assert buyers() == [ADA, "guest:b", "guest:c"]
    assert_agrees(product)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("committed", [True, False], ids=["committed", "not committed"])
def test_a_lost_answer_to_the_commit_sells_once(
    product: Product, monkeypatch: pytest.MonkeyPatch, committed: bool, batch: int
) -> None:
    names = [ADA, "guest:b", "guest:c"][:batch]
    ask_each(product, *names)

    with monkeypatch.context() as outage:
        lose_the_answer_to_the_first_commit(
            outage, after=None if committed else lambda self: self._rollback()
        )
        Consumer("one").commit_new(product)
    assert (batch == 1 or committed) == Order.objects.exists()

    Consumer("one").take_over(product, idle_ms=0)

    assert buyers() == names
    assert_agrees(product)


# Dead consumers


@pytest.fixture
def died_before_its_commit(start_consumer: StartConsumer) -> Callable[[], None]:
    """A real consumer, killed with the batch's transaction open."""

    def die() -> None:
        dying = start_consumer(
            preparation="from inventory.strategies import group_commit\n"
            "stop_before(group_commit.ledger, 'close_sales')"
        )
        dying.wait_until_it_stops()
        dying.kill()

    return die


@pytest.fixture
def died_before_its_settlement(start_consumer: StartConsumer) -> Callable[[], None]:
    """A real consumer, killed when the batch was committed and not taken off the queue."""

    def die() -> None:
        dying = start_consumer(preparation="stop_before(counter, '_run', 'settle')")
        dying.wait_until_it_stops()
        dying.kill()

    return die


@pytest.mark.parametrize("point", ["died_before_its_commit", "died_before_its_settlement"])
def test_what_a_killed_consumer_left_is_sold_once_by_another(
    product: Product, request: pytest.FixtureRequest, point: str
) -> None:
    die: Callable[[], None] = request.getfixturevalue(point)
    names = [ADA, "guest:b", "guest:c"]
    tickets = ask_each(product, *names)

    die()

    sold = point == "died_before_its_settlement"
    assert Order.objects.count() == (3 if sold else 0)
    assert status_of(product, tickets[0]) == ("confirmed" if sold else ACCEPTED)
    assert counter.on_their_way(product.pk) == 3
    assert Consumer("other").commit_new(product) == 0, "they are the dead one's still"
    assert Consumer("other").take_over(product, idle_ms=0) == 3
    assert buyers() == names
    for ticket, name in zip(tickets, names, strict=True):
        assert status_of(product, ticket, name) == "confirmed"
    assert Consumer("other").take_over(product, idle_ms=0) == 0
    assert_agrees(product)


def test_what_was_sold_already_is_settled_without_selling_again(
    product: Product,
    died_before_its_settlement: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch that meets orders of its own would be halved until each stands alone."""
    ask_each(product, ADA, "guest:b")
    died_before_its_settlement()
    sell_all = GroupCommit.sell_all
    offered: list[str] = []

    def watched(self: GroupCommit, requests: list[PurchaseRequest]) -> object:
        offered.extend(request.buyer for request in requests)
        return sell_all(self, requests)

    monkeypatch.setattr(GroupCommit, "sell_all", watched)

    Consumer("other").take_over(product, idle_ms=0)

    assert offered == []
    assert_agrees(product)


def test_a_sale_made_before_its_consumer_died_stands_when_all_is_sold_by_then(
    product: Product, died_before_its_settlement: Callable[[], None]
) -> None:
    ticket = ask(product, quantity=10, buyer=ADA)
    died_before_its_settlement()

    Consumer("other").take_over(product, idle_ms=0)

    assert status_of(product, ticket) == "confirmed"
    assert_agrees(product)


def test_takes_over_only_what_has_waited_long_enough(product: Product) -> None:
    ask_each(product, ADA, "guest:b")
    counter.take_entries(product.pk, consumer="alive", most=10)

    assert Consumer("other").take_over(product) == 0
    assert not Order.objects.exists()

    get_redis_connection("locks").xclaim(
        stream_of(product),
        "consumers",
        "alive",
        0,
        [line["message_id"] for line in pending_of(product)][:1],
        idle=consumer.TAKE_OVER_MS + 1,
    )
    assert Consumer("other").take_over(product) == 1
    assert buyers() == [ADA]


def pending_of(product: Product) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get_redis_connection("locks").xpending_range(
        stream_of(product), "consumers", "-", "+", 100
    )
    return found


def test_a_consumer_that_was_taken_for_dead_may_finish_as_well(product: Product) -> None:
    """Both hold the same entries and commit them at the same moment."""
    ask_each(product, *(f"guest:{n:02}" for n in range(6)))
    held: list[Entry] = counter.take_entries(product.pk, consumer="slow", most=10)

    def commit(number: int) -> None:
        Consumer(f"number {number}")._commit(product, held)
        connection.close()

    with Crowd(2) as crowd:
        assert crowd.race(commit) == {"sold": 2}
    Consumer("last").take_over(product, idle_ms=0)

    assert buyers() == [f"guest:{n:02}" for n in range(6)]
    assert_agrees(product)


def test_consumers_at_once_sell_500_purchases_once_each(make_product: MakeProduct) -> None:
    """Two processes with two consumers each."""
    product = make_product(units=480, strategy="redis_counter")
    counter.open_queue(product.pk)
    ask(product, buyer="guest:000")
    put(product, left=499)
    for number in range(1, 500):
        ask(product, buyer=f"guest:{number:03}")

    def consume(number: int) -> None:
        one = Consumer(f"number {number}")
        while counter.on_their_way(product.pk):
            one.commit_new(product) or one.take_over(product, idle_ms=50)

    assert race_in_processes(2, 2, consume) == {"sold": 4}

    books = read_books(product.pk)
    assert (len(books.orders), books.units_sold(), audit(books)) == (480, 480, [])
    assert len({order.buyer for order in books.orders}) == 480
    assert counter.on_their_way(product.pk) == 0
    consumer.heal(product)
    assert_agrees(product)


# The command


def test_once_commits_what_waits_and_ends(product: Product, start_consumer: StartConsumer) -> None:
    tickets = ask_each(product, ADA, "guest:b")
    Product.objects.update(strategy="group_commit")

    code, log = start_consumer("--once").end()

    assert code == 0, log
    assert status_of(product, tickets[0]) == "confirmed"
    assert_agrees(product)


def test_once_takes_over_what_a_dead_consumer_left_before_it_ends(
    product: Product, start_consumer: StartConsumer
) -> None:
    """They are not old enough at its first look: it waits for them."""
    ask_each(product, ADA, "guest:b")
    counter.take_entries(product.pk, consumer="dead", most=1)

    code, log = start_consumer(
        "--once",
        preparation="""
take_over = consumer.Consumer.take_over
def look_in_vain(self, product):
    consumer.Consumer.take_over = lambda self, product: take_over(self, product, idle_ms=0)
    return 0
consumer.Consumer.take_over = look_in_vain
""",
    ).end()

    assert code == 0, log
    assert buyers() == [ADA, "guest:b"]
    assert_agrees(product)


def test_heals_counters_while_it_runs(product: Product, start_consumer: StartConsumer) -> None:
    ask(product)
    drain(product)
    put(product, left=2)

    code, log = start_consumer("--once").end()

    assert code == 0, log
    assert "said 2, not 9" in log
    assert_agrees(product)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_finishes_the_batch_at_hand_when_it_is_told_to_stop(
    product: Product, start_consumer: StartConsumer, number: signal.Signals
) -> None:
    ask_each(product, *(f"guest:{n}" for n in range(5)))
    working = start_consumer(
        preparation="consumer.LARGEST_BATCH = 2\nstop_before(consumer.GroupCommit, 'sell_all')"
    )
    working.wait_until_it_stops()

    working.process.send_signal(number)
    working.let_go()

    code, log = working.end()
    assert code == 0, log
    assert buyers() == ["guest:0", "guest:1"]
    assert counter.on_their_way(product.pk) == 3
    assert not pending_of(product), "and holds nothing that it did not sell"


def test_goes_on_after_an_outage_of_the_database(
    product: Product, start_consumer: StartConsumer
) -> None:
    ask(product, buyer=ADA)
    code, log = start_consumer(
        "--once",
        preparation="""
from django.db import OperationalError
ask = commit_purchases.products_with_queues
def fail():
    commit_purchases.products_with_queues = ask
    raise OperationalError(2003, "Can't connect to server")
commit_purchases.products_with_queues = fail
""",
    ).end()

    assert code == 0, log
    assert "cannot be worked on" in log
    assert buyers() == [ADA]


@pytest.mark.parametrize("how", ["flushed", "killed and restarted"])
def test_goes_on_when_redis_lost_everything(
    own_redis: OwnRedis, make_product: MakeProduct, start_consumer: StartConsumer, how: str
) -> None:
    """In the middle of a batch: it is sold; what came after it is lost; new ones are sold."""
    product = make_product(units=10, strategy="redis_counter")
    sold = ask(product, quantity=4, buyer=ADA)
    working = start_consumer(preparation="stop_before(consumer.GroupCommit, 'sell_all')")
    working.wait_until_it_stops()
    lost = ask(product, quantity=5, buyer="guest:lost")

    if how == "flushed":
        own_redis.client.flushall()
    else:
        own_redis.kill()
        own_redis.start()
    new = ask(product, quantity=6, buyer="guest:new")
    working.let_go()
    wait_until(lambda: Order.objects.filter(buyer="guest:new").exists())
    wait_until(lambda: counter.on_their_way(product.pk) == 0)

    working.process.send_signal(signal.SIGTERM)
    code, log = working.end()
    assert code == 0, log
    assert status_of(product, sold) == "confirmed"
    assert status_of(product, new, "guest:new") == "confirmed"
    with pytest.raises(TicketNotFound):
        redeem(slug=product.slug, reference=lost.order, buyer="guest:lost")
    consumer.heal(product)
    assert read_books(product.pk).units_sold() == 10
    assert_agrees(product)


def wait_until(come: Callable[[], bool]) -> None:
    """Look again and again, 20 s at most, for what another process does."""
    never = threading.Event()
    for _ in range(400):
        if come():
            return
        never.wait(0.05)
    raise AssertionError("it never came")


def test_goes_on_after_an_outage_of_redis(
    own_redis: OwnRedis, make_product: MakeProduct, start_consumer: StartConsumer
) -> None:
    product = make_product(units=10, strategy="redis_counter")
    ask(product, buyer=ADA)
    own_redis.hang()
    working = start_consumer("--once", preparation="commit_purchases.OUTAGE_PAUSE_S = 0.05")
    assert working.process.stderr is not None
    assert "cannot be worked on" in working.process.stderr.readline()

    own_redis.go_on()

    code, log = working.end()
    assert code == 0, log
    assert buyers() == [ADA]


@pytest.mark.parametrize("kind", ["string", "hash"])
def test_a_queue_that_is_none_does_not_stop_the_other_products(
    product: Product, make_product: MakeProduct, start_consumer: StartConsumer, kind: str
) -> None:
    vase = make_product("vase", strategy="redis_counter")
    retired = make_product("retired", strategy="group_commit")
    ask(vase, buyer=ADA)
    redis = get_redis_connection("locks")
    for broken in (product, retired):
        redis.delete(stream_of(broken))
        if kind == "string":
            redis.set(stream_of(broken), "12 monkeys")
        else:
            redis.hset(stream_of(broken), "a", "b")

    code, log = start_consumer("--once").end()

    assert code == 0, log
    assert buyers() == [ADA]
    ask(product, buyer="guest:b")
    drain(product)
    assert_agrees(product)


def test_needs_redis(product: Product, settings: Settings) -> None:
    settings.CACHES = {name: cache for name, cache in settings.CACHES.items() if name != "locks"}

    with pytest.raises(CommandError, match="REDIS_URL is not set"):
        call_command("commit_purchases")


def test_each_process_is_a_consumer_of_its_own(
    product: Product, start_consumer: StartConsumer
) -> None:
    """Two that shared a name would share what they took, and each other's death."""
    ask_each(product, "guest:a", "guest:b")
    stopping = "consumer.LARGEST_BATCH = 1\nstop_before(consumer.GroupCommit, 'sell_all')"
    both = [start_consumer(preparation=stopping) for _ in range(2)]
    for one in both:
        one.wait_until_it_stops()

    names = {line["consumer"].decode() for line in pending_of(product)}

    assert len(names) == 2
    assert {name.rsplit(":", 1)[1] for name in names} == {str(one.process.pid) for one in both}
    for one in both:
        os.kill(one.process.pid, signal.SIGTERM)
        one.let_go()
    assert [one.end()[0] for one in both] == [0, 0]
    assert buyers() == ["guest:a", "guest:b"]
    assert_agrees(product)
