"""The counter before the row: what it accepts, and how it is set right by the database."""

from __future__ import annotations

import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django_redis import get_redis_connection
from pytest_django import Settings
from redis.crc import key_slot

from conftest import Buy, MakeProduct, StartRedis, drain
from inventory import adjustments, consumer, counter, ledger, purchases, terms
from inventory.audit import audit, read_books
from inventory.consumer import Consumer
from inventory.counter import Count, Entry, Settlement
from inventory.errors import (
    KeyReused,
    LimitReached,
    OutcomeUnknown,
    SoldOut,
    StockBusy,
    TicketNotFound,
)
from inventory.ledger import ACCEPTED, Receipt
from inventory.models import Movement, Order, Product, Stock
from inventory.purchases import purchase
from inventory.strategies import STRATEGIES, redis_counter
from inventory.tests.races import Crowd, outcome_of
from inventory.tests.servers import OwnRedis
from inventory.tickets import redeem

pytestmark = [pytest.mark.redis, pytest.mark.django_db(transaction=True)]

SOON_S = 1.3
"""A purchase waits 0.5 s for Redis; the rest is for a busy machine."""
ADA = "guest:ada"


@pytest.fixture(autouse=True)
def _no_memory_of_sold_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that every purchase asks the counter."""
    monkeypatch.setattr(purchases._sold_out, "_for_s", 0.0)


@pytest.fixture
def product(make_product: MakeProduct) -> Product:
    return make_product(units=10, strategy="redis_counter")


@pytest.fixture
def limited(make_product: MakeProduct) -> Product:
    return make_product(units=10, strategy="redis_counter", limit_per_buyer=5)


def ask(
    product: Product, *, quantity: int = 1, buyer: str | None = None, key: uuid.UUID | None = None
) -> Receipt:
    """Buy up to the ticket: nothing is committed."""
    buyer = buyer or f"guest:{uuid.uuid4().hex}"
    return purchase(slug=product.slug, quantity=quantity, buyer=buyer, key=key or uuid.uuid4())


def redis() -> Any:
    return get_redis_connection("locks")


def counter_key(product: Product, part: str = "") -> str:
    return f"counter:{{{product.pk}}}{part}"


def ticket_key(product: Product, reference: uuid.UUID) -> str:
    return counter_key(product, f":ticket:{reference.hex}")


def numbers(product: Product) -> tuple[str, str]:
    seen = counter.count(product.pk)
    return seen.left, seen.pending


def put(product: Product, **fields: str | int) -> None:
    """Make the counter say something else."""
    redis().hset(counter_key(product), mapping=fields)


def units_of(product: Product) -> int:
    return Stock.objects.get(product_id=product.pk).available


def adjust(product: Product, delta: int, kind: Movement.Kind = Movement.Kind.RESTOCK) -> None:
    adjustments.adjust(
        product_id=product.pk, delta=delta, kind=kind, reason="for the test", actor="op"
    )


def reset(product: Product, units: int) -> None:
    adjustments.reset(slugs=[product.slug], units=units, reason="for the test", actor="op")


def take_one(product: Product) -> Entry:
    """Take the one entry of a queue, as a consumer that then does nothing with it."""
    counter.open_queue(product.pk)
    (entry,) = counter.take_entries(product.pk, consumer="slow", most=10)
    return entry


def commit_all(product: Product) -> None:
    """Do all that consumers do, the dead ones' work too, and heal."""
    counter.open_queue(product.pk)
    Consumer("last").take_over(product, idle_ms=0)
    drain(product)
    consumer.heal(product)


def assert_agrees(product: Product) -> None:
    """The counter says what the database has; nothing is on its way; the books are clean."""
    assert counter.on_their_way(product.pk) == 0
    assert counter.count(product.pk).agrees_with(units_of(product)), counter.count(product.pk)
    assert audit(read_books(product.pk)) == []


def use_redis_at(address: str, settings: Settings) -> None:
    locks = {**settings.CACHES["locks"], "LOCATION": f"redis://{address}/1"}
    settings.CACHES = {**settings.CACHES, "locks": locks}


# One script per purchase


def test_accepts_a_purchase_and_only_then_is_it_sold(product: Product) -> None:
    receipt = ask(product, quantity=3, buyer=ADA)

    assert (receipt.status, receipt.quantity, receipt.available) == (ACCEPTED, 3, 7)
    assert (receipt.stock_version, receipt.replayed) == (None, False)
    assert STRATEGIES["redis_counter"].pending(product.pk) == 1
    assert numbers(product) == ("7", "3")
    assert (units_of(product), Order.objects.count()) == (10, 0)

    drain(product)

    order = Order.objects.get()
    assert (order.reference, order.quantity, order.buyer) == (receipt.order, 3, ADA)
    assert numbers(product) == ("7", "0")
    assert_agrees(product)


def test_names_the_order_before_it_is_made_and_the_same_each_time() -> None:
    asked: dict[str, Any] = {"product_id": 1, "buyer": ADA, "key": uuid.uuid4()}
    name = counter.reference_for(**asked)
    others: list[dict[str, Any]] = [{"product_id": 2}, {"buyer": "b"}, {"key": uuid.uuid4()}]

    assert counter.reference_for(**asked) == name
    for other in others:
        assert counter.reference_for(**{**asked, **other}) != name


def test_all_keys_of_a_product_share_one_hash_tag(make_product: MakeProduct) -> None:
    """Otherwise no Cluster could run the scripts."""
    product = make_product(units=10, strategy="redis_counter", limit_per_buyer=3)
    other = make_product("vase", units=10, strategy="redis_counter")
    ticket = ask(product, buyer=ADA)
    take_one(product)

    keys = {key.decode() for key in redis().scan_iter("counter:*")}

    tag = f"counter:{{{product.pk}}}"
    assert keys == {tag, f"{tag}:bought", f"{tag}:stream", f"{tag}:ticket:{ticket.order.hex}"}
    assert len({key_slot(key.encode()) for key in keys}) == 1
    assert key_slot(counter_key(other).encode()) not in {key_slot(key.encode()) for key in keys}


def test_sells_on_a_node_of_a_cluster(
    make_product: MakeProduct, start_redis: StartRedis, buy: Buy
) -> None:
    """A real one: it refuses every script whose keys are not of one slot."""
    node = start_redis("--cluster-enabled", "yes", database=0)
    cluster: Any = node.client
    cluster.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
    deadline = time.monotonic() + 20
    while cluster.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    product = make_product(units=2, strategy="redis_counter", limit_per_buyer=2)

    assert buy(product, quantity=2, buyer=ADA).available == 0

    with pytest.raises(SoldOut):
        ask(product)
    adjust(product, 5)
    with pytest.raises(LimitReached):
        ask(product, buyer=ADA)
    assert_agrees(product)


def test_a_key_is_accepted_once(product: Product) -> None:
    key = uuid.uuid4()

    first, again = (ask(product, quantity=2, buyer=ADA, key=key) for _ in range(2))

    assert again.order == first.order
    assert (first.replayed, again.replayed, again.status) == (False, True, ACCEPTED)
    assert counter.on_their_way(product.pk) == 1
    assert numbers(product) == ("8", "2")


def test_20_threads_with_one_key_are_accepted_once(product: Product) -> None:
    key = uuid.uuid4()
    receipts: list[Receipt] = []

    with Crowd(20) as crowd:
        outcomes = crowd.race(lambda n: receipts.append(ask(product, buyer=ADA, key=key)))

    assert outcomes == {"sold": 20}
    assert len({receipt.order for receipt in receipts}) == 1
    assert sorted(receipt.replayed for receipt in receipts) == [False] + [True] * 19
    assert counter.on_their_way(product.pk) == 1
    drain(product)
    assert numbers(product) == ("9", "0")
    assert Order.objects.count() == 1
    assert_agrees(product)


def test_a_key_that_was_sold_is_answered_with_its_order(product: Product) -> None:
    key = uuid.uuid4()
    ticket = ask(product, buyer=ADA, key=key)
    drain(product)

    again = ask(product, buyer=ADA, key=key)

    assert (again.order, again.status, again.replayed) == (ticket.order, "confirmed", True)
    assert (again.stock_version, again.available) == (2, 9)
    assert counter.on_their_way(product.pk) == 0
    assert_agrees(product)


@pytest.mark.parametrize("sold", [False, True], ids=["waiting", "sold"])
def test_refuses_a_key_that_was_accepted_for_another_quantity(product: Product, sold: bool) -> None:
    key = uuid.uuid4()
    ask(product, buyer=ADA, key=key)
    if sold:
        drain(product)

    with pytest.raises(KeyReused):
        ask(product, quantity=2, buyer=ADA, key=key)

    drain(product)
    assert numbers(product) == ("9", "0")
    assert Order.objects.get().quantity == 1


def test_the_same_key_of_another_buyer_is_another_purchase(product: Product) -> None:
    key = uuid.uuid4()

    tickets = {ask(product, buyer=buyer, key=key).order for buyer in (ADA, "guest:eve")}

    assert len(tickets) == 2
    assert counter.on_their_way(product.pk) == 2


def test_accepts_exactly_the_stock_when_buyers_race(product: Product) -> None:
    with Crowd(20) as crowd:
        outcomes = crowd.race(lambda n: ask(product))

    assert outcomes == {"sold": 10, "SoldOut": 10}
    drain(product)
    assert Order.objects.count() == 10
    assert_agrees(product)


def test_keeps_a_ticket_for_a_day(product: Product) -> None:
    ticket = ask(product, buyer=ADA)
    key = ticket_key(product, ticket.order)
    assert 0 <= counter.TICKET_TTL_S - redis().ttl(key) < 60
    redis().expire(key, 100)

    counter.settle(product.pk, [Settlement(entry=take_one(product), state="sold_out")])

    assert 0 <= counter.TICKET_TTL_S - redis().ttl(key) < 60, "a refusal as well"


def test_shows_a_ticket_to_its_buyer_only(product: Product) -> None:
    ticket = ask(product, buyer=ADA)

    def found(buyer: str) -> object:
        return counter.find_ticket(product_id=product.pk, reference=ticket.order, buyer=buyer)

    assert found(ADA) == counter.Ticket(quantity=1, state="pending")
    for other in ("guest:eve", "", "ada", f"{ADA} ", "pending guest:ada"):
        assert found(other) is None


# The limit per buyer


def test_refuses_more_than_the_limit_without_asking_the_database(make_product: MakeProduct) -> None:
    product = make_product(units=10, strategy="redis_counter", limit_per_buyer=3)
    ask(product, quantity=2, buyer=ADA)

    with pytest.raises(LimitReached) as refusal:
        ask(product, quantity=2, buyer=ADA)

    assert refusal.value.limit == 3
    assert counter.on_their_way(product.pk) == 1, "the database was never asked to judge"
    assert ask(product, quantity=1, buyer=ADA).available == 7
    assert ask(product, quantity=3, buyer="guest:eve").available == 4


def test_accepts_no_more_than_the_limit_when_one_buyer_races(make_product: MakeProduct) -> None:
    product = make_product(units=50, strategy="redis_counter", limit_per_buyer=3)

    with Crowd(20) as crowd:
        outcomes = crowd.race(lambda n: ask(product, buyer=ADA))

    assert outcomes == {"sold": 3, "LimitReached": 17}
    drain(product)
    assert Order.objects.count() == 3
    assert_agrees(product)


def test_the_database_judges_the_limit_again(make_product: MakeProduct, buy: Buy) -> None:
    """What was bought in another way, the counter does not know of."""
    product = make_product(units=10, limit_per_buyer=3)
    buy(product, quantity=2, buyer=ADA)
    Product.objects.update(strategy="redis_counter")
    product = forget_terms(product)

    ticket = ask(product, quantity=2, buyer=ADA)
    drain(product)

    with pytest.raises(LimitReached):
        redeem(slug=product.slug, reference=ticket.order, buyer=ADA)
    assert Order.objects.get().strategy == "conditional_update"
    assert_agrees(product)
    assert redis().hget(counter_key(product, ":bought"), ADA) == b"0"
    assert buy(product, quantity=1, buyer=ADA).available == 7, "and what is allowed is still sold"


def forget_terms(product: Product) -> Product:
    terms.forget()
    return Product.objects.get(pk=product.pk)


def test_a_refusal_does_not_count_against_the_limit(make_product: MakeProduct) -> None:
    product = make_product(units=1, strategy="redis_counter", limit_per_buyer=2)
    ask(product, buyer="guest:eve")
    put(product, left=5)
    ticket = ask(product, quantity=2, buyer=ADA)

    drain(product)

    with pytest.raises(SoldOut):
        redeem(slug=product.slug, reference=ticket.order, buyer=ADA)
    assert redis().hget(counter_key(product, ":bought"), ADA) == b"0"
    assert redis().hget(counter_key(product, ":bought"), "guest:eve") == b"1"


# A counter that is too high, or too low


def test_a_counter_too_high_costs_refusals_and_sells_nothing_twice(
    make_product: MakeProduct,
) -> None:
    product = make_product(units=2, strategy="redis_counter")
    ask(product, buyer="guest:0")
    put(product, left=8)
    tickets = [ask(product, buyer=f"guest:{n}") for n in range(1, 5)]

    drain(product)

    outcomes = [
        outcome_of(
            lambda n=n, ticket=ticket: redeem(  # type: ignore[misc]  # bound early
                slug=product.slug, reference=ticket.order, buyer=f"guest:{n}"
            )
        )
        for n, ticket in enumerate(tickets, 1)
    ]
    assert outcomes == ["sold", "SoldOut", "SoldOut", "SoldOut"]
    assert numbers(product) == ("4", "0"), "units that never existed are not put back"
    books = read_books(product.pk)
    assert (books.units_sold(), books.oversold(), audit(books)) == (2, 0, [])
    consumer.heal(product)
    assert_agrees(product)


def test_a_counter_too_low_is_healed_by_the_first_buyer_it_refuses(product: Product) -> None:
    buyer_before = ask(product, buyer=ADA)
    drain(product)
    before = counter.count(product.pk).epoch
    put(product, left=0)

    receipt = ask(product, quantity=2)

    assert receipt.available == 7
    assert counter.count(product.pk).epoch not in ("", before), "under a new epoch"
    assert redeem(slug=product.slug, reference=buyer_before.order, buyer=ADA).status == "confirmed"
    drain(product)
    assert_agrees(product)


def test_a_counter_that_refuses_fewer_than_it_has_is_healed_too(product: Product) -> None:
    ask(product)
    drain(product)
    put(product, left=2)

    assert ask(product, quantity=5).available == 4


def test_asks_the_database_about_a_sold_out_counter_once_a_second(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(units=0, strategy="redis_counter")
    asked: list[int] = []
    read = redis_counter.read_stock

    def counted(product_id: int) -> Stock:
        asked.append(product_id)
        return read(product_id)

    clock = [1000.0]
    monkeypatch.setattr(redis_counter, "read_stock", counted)
    monkeypatch.setattr(redis_counter.time, "monotonic", lambda: clock[0])
    strategy = STRATEGIES["redis_counter"]
    request = ledger.PurchaseRequest(
        product_id=product.pk,
        quantity=1,
        buyer=ADA,
        key=uuid.uuid4(),
        unit_price=product.price,
        strategy="redis_counter",
    )
    counter.heal(product.pk, seen=Count(), available=0, version=0)

    for _ in range(20):
        with pytest.raises(SoldOut):
            strategy.sell(request)
    assert len(asked) == 1
    Stock.objects.filter(product=product).update(available=5)
    clock[0] += 0.9
    with pytest.raises(SoldOut):
        strategy.sell(request)
    clock[0] += 0.2
    assert strategy.sell(request).available == 4
    assert len(asked) == 2


def test_a_sold_out_counter_that_is_right_is_left_alone(make_product: MakeProduct) -> None:
    product = make_product(units=1, strategy="redis_counter")
    ask(product)
    drain(product)
    before = counter.count(product.pk)

    with pytest.raises(SoldOut) as refusal:
        ask(product)

    assert refusal.value.available == 0
    assert counter.count(product.pk) == before


def test_is_not_healed_while_a_purchase_is_on_its_way(product: Product) -> None:
    ask(product, quantity=4)
    put(product, left=0)
    before = counter.count(product.pk)

    with pytest.raises(SoldOut):
        ask(product)
    consumer.heal(product)

    assert counter.count(product.pk) == before


def test_is_not_healed_while_a_consumer_holds_what_it_took(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken and not settled: nobody knows whether the database has counted it."""
    monkeypatch.setattr(redis_counter, "CHECK_AGAIN_S", 0.0)
    ask(product, quantity=4)
    put(product, left=0)
    before = counter.count(product.pk)
    entry = take_one(product)

    with pytest.raises(SoldOut):
        ask(product)
    consumer.heal(product)
    assert counter.count(product.pk) == before

    Consumer("slow")._commit(product, [entry])
    assert ask(product).available == 5, "but once it is settled"


@pytest.mark.parametrize("committed", [False, True], ids=["waiting", "sold by then"])
def test_an_accept_between_reading_and_healing_makes_the_heal_do_nothing(
    product: Product, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """Set from what was read before, the counter would offer the unit just sold again."""
    ask(product)
    drain(product)
    put(product, left=2)
    before = counter.count(product.pk).epoch
    read = redis_counter.read_stock

    def read_and_let_a_rival_buy(product_id: int) -> Stock:
        stock = read(product_id)
        monkeypatch.setattr(redis_counter, "read_stock", read)
        ask(product, buyer="guest:rival")
        if committed:
            drain(product)
        return stock

    monkeypatch.setattr(redis_counter, "read_stock", read_and_let_a_rival_buy)

    with pytest.raises(SoldOut) as refusal:
        ask(product, quantity=3)

    assert refusal.value.available == 1
    assert counter.count(product.pk).epoch == before


def test_buyers_who_find_no_counter_at_once_make_one(product: Product) -> None:
    with Crowd(20) as crowd:
        outcomes = crowd.race(lambda n: ask(product))

    assert outcomes["sold"] == 10
    drain(product)
    assert Order.objects.count() == 10
    assert_agrees(product)


# Missing, garbage, of the wrong type

Damage = Callable[[Product, Receipt], None]


def delete(part: str) -> Damage:
    return lambda product, ticket: redis().delete(counter_key(product, part))


def replace(part: str, kind: str) -> Damage:
    def replaced(product: Product, ticket: Receipt) -> None:
        key = counter_key(product, part)
        redis().delete(key)
        match kind:
            case "string":
                redis().set(key, "12 monkeys")
            case "bytes":
                redis().set(key, b"\xff\xfe\x00")
            case "list":
                redis().rpush(key, "7", "0", "x")
            case "hash":
                redis().hset(key, "quantity", "7")
            case "set":
                redis().sadd(key, "7")

    return replaced


def garble(part: str, field: str, value: bytes) -> Damage:
    return lambda product, ticket: redis().hset(counter_key(product, part), field, value)


def drop(part: str, field: str) -> Damage:
    return lambda product, ticket: redis().hdel(counter_key(product, part), field)


def garble_ticket(value: bytes) -> Damage:
    return lambda product, ticket: redis().set(ticket_key(product, ticket.order), value)


def wrong_ticket(product: Product, ticket: Receipt) -> None:
    key = ticket_key(product, ticket.order)
    redis().delete(key)
    redis().rpush(key, "1", "pending", ADA)


NO_NUMBERS = [b"", b"x", b"\xff\xfe", b"1e3", b"0x10", b"5.5", b" 5", b"nan", b"inf", b"9" * 30]
"""What Lua may take for a number, or HINCRBY, but not both."""
DAMAGES = {
    "counter deleted": delete(""),
    **{f"counter is a {kind}": replace("", kind) for kind in ("string", "bytes", "list", "set")},
    "counter without left": drop("", "left"),
    "counter without pending": drop("", "pending"),
    "counter without epoch": drop("", "epoch"),
    "epoch is no text": garble("", "epoch", b"\xff\xfe"),
    **{f"left is {value!r:.12}": garble("", "left", value) for value in NO_NUMBERS},
    "left is negative": garble("", "left", b"-7"),
    **{f"pending is {value!r:.12}": garble("", "pending", value) for value in NO_NUMBERS},
    "bought deleted": delete(":bought"),
    **{f"bought is a {kind}": replace(":bought", kind) for kind in ("string", "list", "set")},
    **{f"bought is {value!r:.12}": garble(":bought", ADA, value) for value in NO_NUMBERS},
    "stream deleted": delete(":stream"),
    **{f"stream is a {kind}": replace(":stream", kind) for kind in ("string", "hash", "list")},
}
STREAM_LOST = [name for name in DAMAGES if name.startswith("stream")]


@pytest.fixture(params=DAMAGES)
def damage(request: pytest.FixtureRequest) -> Damage:
    return DAMAGES[request.param]


def ask_until_accepted(product: Product, buyer: str) -> int:
    """Buy one, trying again when busy as the page says; how often nothing was sold."""
    for busy in range(4):
        queued = counter_entries(product)
        try:
            ask(product, buyer=buyer)
        except (StockBusy, SoldOut):
            assert counter_entries(product) == queued, "busy means that nothing was sold"
            commit_all(product)
        else:
            return busy
    raise AssertionError("never accepted")


def counter_entries(product: Product) -> int:
    key = counter_key(product, ":stream")
    return redis().xlen(key) if redis().type(key) == b"stream" else 0


def test_a_damaged_counter_heals_while_nothing_is_on_its_way(
    limited: Product, damage: Damage
) -> None:
    ticket = ask(limited, buyer=ADA)
    drain(limited)

    damage(limited, ticket)

    assert ask_until_accepted(limited, ADA) == 0, "by the first buyer who meets it"
    commit_all(limited)
    assert Order.objects.filter(buyer=ADA).count() == 2
    assert_agrees(limited)


def test_a_damaged_counter_loses_no_purchase_that_is_on_its_way(
    limited: Product, damage: Damage, request: pytest.FixtureRequest
) -> None:
    """Except with the queue itself; and whoever is told "busy" is sold nothing."""
    ticket = ask(limited, buyer=ADA)

    damage(limited, ticket)

    ask_until_accepted(limited, "guest:eve")
    commit_all(limited)
    lost = any(name in request.node.name for name in STREAM_LOST)
    assert Order.objects.filter(buyer=ADA).count() == (0 if lost else 1)
    assert Order.objects.filter(buyer="guest:eve").count() == 1
    commit_all(limited)
    assert_agrees(limited)


@pytest.mark.parametrize("pending", [False, True], ids=["nothing on its way", "one on its way"])
@pytest.mark.parametrize(
    "what", [b"12", b"monkeys", b"", b"1 pending", b"1 what guest:ada", b"\xff"]
)
def test_a_damaged_ticket_harms_nobody_else(product: Product, what: bytes, pending: bool) -> None:
    key = uuid.uuid4()
    ticket = ask(product, buyer=ADA, key=key)
    if not pending:
        drain(product)

    garble_ticket(what)(product, ticket)

    if pending:
        with pytest.raises(OutcomeUnknown):  # "nothing was bought" would not be true
            redeem(slug=product.slug, reference=ticket.order, buyer=ADA)
    ask(product)
    ask(product, buyer=ADA, key=key)
    drain(product)
    assert redeem(slug=product.slug, reference=ticket.order, buyer=ADA).status == "confirmed"
    commit_all(product)
    assert Order.objects.count() == 2
    assert_agrees(product)


def test_a_ticket_of_the_wrong_type_says_nothing_untrue(product: Product) -> None:
    key = uuid.uuid4()
    ticket = ask(product, buyer=ADA, key=key)
    wrong_ticket(product, ticket)

    with pytest.raises(OutcomeUnknown):
        redeem(slug=product.slug, reference=ticket.order, buyer=ADA)
    assert ask(product).available == 8
    assert ask(product, buyer=ADA, key=key).order == ticket.order
    drain(product)
    assert redeem(slug=product.slug, reference=ticket.order, buyer=ADA).status == "confirmed"
    commit_all(product)
    assert_agrees(product)


def test_never_says_that_less_than_nothing_is_left(product: Product) -> None:
    """A correction while purchases wait may leave fewer than they took."""
    ask(product, quantity=8)
    adjust(product, -5, Movement.Kind.CORRECTION)
    assert numbers(product) == ("-3", "8")

    with pytest.raises(SoldOut) as refusal:
        ask(product)

    assert refusal.value.available == 0


# Settling


def test_settling_twice_is_harmless(product: Product) -> None:
    ask(product, quantity=2)
    entry = take_one(product)
    refused = Settlement(entry=entry, state="limit_reached", units_return=True)
    counter.settle(product.pk, [refused])
    once = counter.count(product.pk)

    counter.settle(product.pk, [refused])
    counter.settle(product.pk, [Settlement(entry=entry)])

    assert counter.count(product.pk) == once
    assert numbers(product) == ("10", "0")


def test_a_settlement_of_an_old_epoch_moves_no_numbers_of_the_new_one(limited: Product) -> None:
    ask(limited, quantity=2, buyer=ADA)
    entry = take_one(limited)
    put(limited, left=10, pending=0, epoch="new")

    counter.settle(limited.pk, [Settlement(entry=entry, state="limit_reached", units_return=True)])

    assert counter.count(limited.pk) == Count(left="10", pending="0", epoch="new")
    assert redis().hget(counter_key(limited, ":bought"), ADA) == b"2"
    assert counter.on_their_way(limited.pk) == 0, "but the entry is off the queue"


def test_settles_without_a_counter(product: Product) -> None:
    ask(product)
    entry = take_one(product)
    redis().delete(counter_key(product))

    counter.settle(product.pk, [Settlement(entry=entry)])

    assert counter.on_their_way(product.pk) == 0
    assert counter.count(product.pk) == Count()


def test_settles_what_was_sold_while_its_queue_was_overwritten(product: Product) -> None:
    ticket = ask(product, buyer=ADA)
    entry = take_one(product)
    replace(":stream", "string")(product, ticket)

    Consumer("slow")._commit(product, [entry])

    assert redeem(slug=product.slug, reference=ticket.order, buyer=ADA).status == "confirmed"
    commit_all(product)
    assert ask(product).available == 8
    commit_all(product)
    assert_agrees(product)


# Restocks, corrections, resets


@pytest.mark.parametrize("waiting", [0, 4])
@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lambda product: adjust(product, 5), 15),
        (lambda product: adjust(product, -6, Movement.Kind.CORRECTION), 4),
        (lambda product: reset(product, 30), 30),
        (lambda product: reset(product, 4), 4),
    ],
    ids=["restock", "correction", "reset up", "reset down"],
)
def test_a_change_of_stock_reaches_the_counter(
    product: Product, change: Callable[[Product], None], left: int, waiting: int
) -> None:
    ask(product)
    drain(product)
    reset(product, 10)
    if waiting:
        ask(product, quantity=waiting)
    epoch = counter.count(product.pk).epoch

    change(product)

    assert counter.count(product.pk) == Count(
        left=str(left - waiting), pending=str(waiting), epoch=epoch
    )
    drain(product)
    assert units_of(product) == left - waiting
    assert_agrees(product)


@pytest.mark.parametrize("counted", [False, True], ids=["no counter", "sold out"])
def test_a_restock_is_counted_once_when_the_counter_is_healed_before_it_arrives(
    product: Product, monkeypatch: pytest.MonkeyPatch, counted: bool
) -> None:
    """A buyer comes between its commit and its way to Redis."""
    if counted:
        ask(product, quantity=10)
        drain(product)
    else:
        reset(product, 0)
    shift = counter.shift

    def come_late(*args: Any, **options: Any) -> None:
        ask(product)
        shift(*args, **options)

    with monkeypatch.context() as late:
        late.setattr(counter, "shift", come_late)
        adjust(product, 5)

    assert numbers(product) == ("4", "1"), "4 and not 9"
    drain(product)
    assert_agrees(product)
    adjust(product, 3)
    assert numbers(product) == ("7", "0"), "the next one arrives"


def test_a_change_that_is_rolled_back_does_not_reach_the_counter(product: Product) -> None:
    ask(product)
    drain(product)

    def change_and_fail() -> None:
        with transaction.atomic():
            adjust(product, 5)
            reset(product, 99)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        change_and_fail()

    assert numbers(product) == ("9", "0")


def test_a_change_of_stock_makes_no_counter(product: Product) -> None:
    """It would know nothing of what was there before."""
    adjust(product, 5)

    assert not redis().exists(counter_key(product))
    assert ask(product).available == 14


@pytest.mark.parametrize("down", ["refuses", "hangs"])
def test_a_restock_succeeds_without_redis_and_reaches_the_counter_later(
    product: Product, own_redis: OwnRedis, caplog: pytest.LogCaptureFixture, down: str
) -> None:
    ask(product, quantity=10)
    drain(product)
    if down == "refuses":
        own_redis.kill()
    else:
        own_redis.hang()
    begun = time.monotonic()

    with caplog.at_level(logging.WARNING):
        adjust(product, 5)

    assert time.monotonic() - begun < SOON_S
    assert "missed +5 units" in caplog.text
    assert units_of(product) == 5
    if down == "refuses":
        own_redis.start()
    else:
        own_redis.go_on()
    assert ask(product).available in (4, 9), "9 where the hung Redis did it late"
    commit_all(product)
    assert_agrees(product)


def test_a_restock_needs_no_redis_setting(product: Product, settings: Settings) -> None:
    settings.CACHES = {name: cache for name, cache in settings.CACHES.items() if name != "locks"}

    adjust(product, 5)
    reset(product, 7)

    assert units_of(product) == 7


# Without Redis, and after it lost everything


def test_the_outcome_is_unknown_when_redis_refuses_the_connection(
    product: Product, settings: Settings
) -> None:
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        use_redis_at(f"127.0.0.1:{nobody_listens.getsockname()[1]}", settings)

        with pytest.raises(OutcomeUnknown):
            ask(product)
        with pytest.raises(OutcomeUnknown):
            redeem(slug=product.slug, reference=uuid.uuid4(), buyer=ADA)


def test_a_hung_redis_ends_in_outcome_unknown_within_a_second_for_each_buyer(
    product: Product, own_redis: OwnRedis
) -> None:
    ask(product)
    own_redis.hang()
    waits: list[float] = []
    key = uuid.uuid4()

    def ask_and_measure(number: int) -> None:
        begun = time.monotonic()
        try:
            ask(product, buyer=ADA, key=key)
        finally:
            waits.append(time.monotonic() - begun)

    with Crowd(8) as crowd:
        outcomes = crowd.race(ask_and_measure)

    assert outcomes == {"OutcomeUnknown": 8}
    assert max(waits) < SOON_S
    own_redis.go_on()
    assert ask(product, buyer=ADA, key=key).status == ACCEPTED, "the key tells the truth"
    drain(product)
    assert Order.objects.filter(buyer=ADA).count() == 1
    assert_agrees(product)


@pytest.fixture(params=["flushed", "killed and restarted"])
def lose_all_data(request: pytest.FixtureRequest, own_redis: OwnRedis) -> Callable[[], None]:
    def flush() -> None:
        own_redis.client.flushall()

    def restart() -> None:
        own_redis.kill()
        own_redis.start()

    return flush if request.param == "flushed" else restart


def test_a_redis_that_lost_everything_costs_tickets_and_no_truth(
    product: Product, lose_all_data: Callable[[], None]
) -> None:
    sold = ask(product, quantity=2, buyer=ADA)
    drain(product)
    key = uuid.uuid4()
    lost = ask(product, quantity=3, buyer=ADA, key=key)

    lose_all_data()

    assert redeem(slug=product.slug, reference=sold.order, buyer=ADA).status == "confirmed"
    with pytest.raises(TicketNotFound, match="it was lost before it was sold"):
        redeem(slug=product.slug, reference=lost.order, buyer=ADA)
    with Crowd(12) as crowd:
        assert crowd.race(lambda n: ask(product))["sold"] == 8, "all that are left, and new ones"
    drain(product)
    books = read_books(product.pk)
    assert (books.units_sold(), books.oversold()) == (10, 0)
    assert_agrees(product)


def test_the_key_of_a_lost_ticket_buys_again(
    product: Product, lose_all_data: Callable[[], None]
) -> None:
    key = uuid.uuid4()
    lost = ask(product, quantity=3, buyer=ADA, key=key)

    lose_all_data()

    assert ask(product, quantity=3, buyer=ADA, key=key).order == lost.order
    drain(product)
    assert redeem(slug=product.slug, reference=lost.order, buyer=ADA).status == "confirmed"
    assert Order.objects.count() == 1
    assert_agrees(product)


def test_data_lost_while_a_consumer_commits_sells_nothing_twice(
    product: Product, lose_all_data: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its commit and its settlement: the new counter has not counted its units off."""
    key = uuid.uuid4()
    held = ask(product, quantity=6, buyer=ADA, key=key)
    entry = take_one(product)
    settle = counter.settle

    def lose_and_settle(product_id: int, settlements: list[Settlement]) -> None:
        lose_all_data()
        ask(product, quantity=4, buyer="guest:eve")
        settle(product_id, settlements)

    monkeypatch.setattr(counter, "settle", lose_and_settle)
    Consumer("slow")._commit(product, [entry])
    monkeypatch.undo()

    assert redeem(slug=product.slug, reference=held.order, buyer=ADA).status == "confirmed"
    assert ask(product, quantity=6, buyer=ADA, key=key).order == held.order
    commit_all(product)
    with pytest.raises(SoldOut):
        ask(product)
    assert read_books(product.pk).units_sold() == 10
    assert_agrees(product)


def test_data_lost_before_a_consumer_commits_sells_nothing_twice(
    product: Product, lose_all_data: Callable[[], None]
) -> None:
    """The new counter offers units that the consumer sells just then: buyers are refused."""
    ask(product, quantity=6, buyer=ADA)
    entry = take_one(product)
    lose_all_data()
    tickets = [ask(product, buyer=f"guest:{n}") for n in range(10)]

    Consumer("slow")._commit(product, [entry])
    commit_all(product)

    refused = 0
    for n, ticket in enumerate(tickets):
        try:
            redeem(slug=product.slug, reference=ticket.order, buyer=f"guest:{n}")
        except SoldOut:
            refused += 1
    assert refused == 6
    assert read_books(product.pk).units_sold() == 10
    assert_agrees(product)


# The database's outages


def test_is_busy_when_there_is_no_counter_and_no_database_to_make_it_from(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(product_id: int) -> Stock:
        raise OperationalError(2003, "Can't connect to server on 'db' (111)")

    monkeypatch.setattr(redis_counter, "read_stock", unreachable)

    with pytest.raises(StockBusy):
        ask(product)

    assert counter.on_their_way(product.pk) == 0


def test_a_ticket_is_shown_again_or_unknown_while_the_database_is_away(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = uuid.uuid4()
    ask(product, buyer=ADA, key=key)

    def unreachable(*args: object) -> None:
        raise OperationalError(2003, "Can't connect to server on 'db' (111)")

    monkeypatch.setattr(ledger, "find_receipt", unreachable)

    with pytest.raises(OutcomeUnknown):
        ask(product, buyer=ADA, key=key)


def test_refuses_to_accept_inside_another_transaction(product: Product) -> None:
    """A rollback could not take it back."""
    with transaction.atomic(), pytest.raises(RuntimeError):
        ask(product)

    assert counter.on_their_way(product.pk) == 0


def test_every_thread_heals_by_its_own_connection(product: Product) -> None:
    """A first purchase in a fresh thread works, as under a threaded server."""
    receipts: list[Receipt] = []

    def buy_in_a_thread() -> None:
        receipts.append(ask(product))
        connection.close()

    thread = threading.Thread(target=buy_in_a_thread)
    thread.start()
    thread.join(10)

    assert receipts[0].available == 9
