"""What only an event loop can do to a sale: cancel it, at any await; and starve it."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import django.db
import pytest
from asyncmy.errors import OperationalError as DriverError
from django.conf import settings
from django.core.cache import caches
from django.db import connection
from django_redis import get_redis_connection
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from conftest import MakeProduct, drain
from inventory import engine, retries, threads
from inventory.audit import audit, read_books
from inventory.errors import OutcomeUnknown, StockBusy
from inventory.ledger import ACCEPTED, PurchaseRequest, Receipt
from inventory.models import Order, Product
from inventory.purchases import apurchase
from inventory.strategies import STRATEGIES
from inventory.tests.races import run, tasks_race
from inventory.uninterrupted import all_ended

pytestmark = [pytest.mark.redis, pytest.mark.django_db(transaction=True)]
MOST_STEPS = 400


async def buy(product: Product, **wish: Any) -> Receipt:
    defaults = {"quantity": 1, "buyer": f"guest:{uuid.uuid4().hex}", "key": uuid.uuid4()}
    return await apurchase(slug=product.slug, **{**defaults, **wish})


async def cancelled_after(steps: int, work: Awaitable[object]) -> bool:
    """Give `work` so many turns of the event loop, then cancel it; whether it was still at work."""
    task = asyncio.ensure_future(work)
    for _ in range(steps):
        await asyncio.sleep(0)
    at_work = not task.done()
    task.cancel()
    await asyncio.wait([task])
    return at_work


async def nothing_is_left_open() -> None:
    """The pool has all its connections back, and none of them has a transaction open."""
    await all_ended()
    pool: Any = engine._engine().pool
    assert pool.checkedout() == 0
    await asyncio.to_thread(lock_the_tables)


def lock_the_tables() -> None:
    """Fail when any transaction is open that has read or written them."""
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION lock_wait_timeout = 1")
        cursor.execute("LOCK TABLES inventory_stock WRITE, inventory_order WRITE")
        cursor.execute("UNLOCK TABLES")
    connection.close()


@pytest.mark.mariadb
def test_a_sale_cancelled_at_any_await_is_made_as_a_whole_or_not_at_all(
    strategy: str, make_product: MakeProduct
) -> None:
    product = make_product(units=2 * MOST_STEPS, strategy=strategy)

    async def story() -> int:
        await buy(product)
        for steps in range(MOST_STEPS):
            if not await cancelled_after(steps, buy(product)):
                return steps
            if steps % 5 == 0:
                await asyncio.wait_for(buy(product), 5)
        return MOST_STEPS

    async def and_look() -> int:
        steps = await story()
        await nothing_is_left_open()
        return steps

    steps = run(and_look())

    fewest = 1 if strategy == "redis_counter" else 5  # it asks Redis once, and no database
    assert steps > fewest, "it was cancelled at work"
    assert audit(read_books(product.pk)) == []
    locks = caches["locks"]
    assert not locks.client.get_client().exists(locks.make_key(f"stock:{{{product.pk}}}"))


@pytest.mark.mariadb
def test_a_sale_begun_goes_on_to_its_end_without_its_buyer(
    committing: str, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each client that leaves would cost the pool a connection."""
    product = make_product(units=5, strategy=committing)
    begun = asyncio.Event()
    run_statement = AsyncConnection.exec_driver_sql

    async def watched(self: AsyncConnection, *statement: Any) -> Any:
        begun.set()
        return await run_statement(self, *statement)

    monkeypatch.setattr(AsyncConnection, "exec_driver_sql", watched)

    async def story() -> None:
        sale = asyncio.create_task(buy(product))
        await begun.wait()
        sale.cancel()
        await asyncio.wait([sale])
        assert sale.cancelled(), "the buyer does not wait for it"
        await nothing_is_left_open()
        pool: Any = engine._engine().pool
        assert pool.checkedin() == 1

    run(story())
    assert Order.objects.count() == 1
    assert audit(read_books(product.pk)) == []


@pytest.mark.mariadb
def test_a_crowd_half_of_which_leaves_harms_nobody_who_stays(
    strategy: str, make_product: MakeProduct
) -> None:
    product = make_product(units=100, strategy=strategy)

    async def story() -> Sequence[object]:
        buyers = [asyncio.create_task(buy(product)) for _ in range(100)]
        await asyncio.wait(buyers, return_when=asyncio.FIRST_COMPLETED)
        for number, buyer in enumerate(buyers):
            if number % 2:
                buyer.cancel()
        answers = await asyncio.gather(*buyers, return_exceptions=True)
        await nothing_is_left_open()
        return answers

    answers = run(story())

    stayed = [answer for number, answer in enumerate(answers) if number % 2 == 0]
    assert [type(answer) for answer in stayed] == [Receipt] * 50
    drain(product)
    books = read_books(product.pk)
    assert audit(books) == []
    assert 50 <= books.units_sold() <= 100


@pytest.fixture
def first_commit_lost(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Have the first commit (or call of the procedure) break, after or before it was made."""

    def lose(made: bool) -> None:
        lost: list[bool] = []
        commit, read = AsyncConnection.commit, engine.Transaction.read

        def error() -> OperationalError:
            return OperationalError("COMMIT", None, DriverError(2013, "Lost connection"))

        async def breaking_commit(self: AsyncConnection) -> None:
            if lost:
                await commit(self)
                return
            lost.append(True)
            await (commit(self) if made else self.rollback())
            raise error()

        async def breaking_read(self: Any, sql: str, values: Any) -> Any:
            if lost or not sql.startswith("CALL"):
                return await read(self, sql, values)
            lost.append(True)
            if made:
                await read(self, sql, values)
            raise error()

        monkeypatch.setattr(AsyncConnection, "commit", breaking_commit)
        monkeypatch.setattr(engine.Transaction, "read", breaking_read)

    return lose


@pytest.mark.mariadb
@pytest.mark.parametrize("made", [True, False])
def test_the_key_tells_whether_a_commit_whose_answer_was_lost_was_made(
    committing: str,
    made: bool,
    make_product: MakeProduct,
    first_commit_lost: Callable[[bool], None],
) -> None:
    product = make_product(units=5, strategy=committing)
    first_commit_lost(made)

    receipt = run(buy(product))

    assert receipt.replayed is made
    assert (receipt.available, Order.objects.count()) == (4, 1)
    assert audit(read_books(product.pk)) == []


@pytest.mark.mariadb
def test_the_outcome_is_unknown_when_the_books_cannot_be_asked(
    committing: str,
    make_product: MakeProduct,
    first_commit_lost: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    product = make_product(units=5, strategy=committing)
    first_commit_lost(True)

    def unreachable(request: object) -> None:
        raise django.db.OperationalError(2003, "unreachable")

    monkeypatch.setattr(retries.ledger, "find_receipt", unreachable)

    with pytest.raises(OutcomeUnknown):
        run(buy(product))


@pytest.mark.mariadb
def test_a_lost_commit_followed_by_lock_waits_ends_in_unknown_and_not_in_busy(
    committing: str, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Busy says that nothing was sold, which nobody can know here."""
    product = make_product(units=5, strategy=committing)
    codes = iter([2013])
    read = engine.Transaction.read

    async def failing_commit(self: AsyncConnection) -> None:
        await self.rollback()
        raise OperationalError("COMMIT", None, DriverError(next(codes, 1205), "as it says"))

    async def failing_read(self: Any, sql: str, values: Any) -> Any:
        if sql.startswith("CALL"):
            raise OperationalError(sql, None, DriverError(next(codes, 1205), "as it says"))
        return await read(self, sql, values)

    monkeypatch.setattr(AsyncConnection, "commit", failing_commit)
    monkeypatch.setattr(engine.Transaction, "read", failing_read)

    with pytest.raises(OutcomeUnknown):
        run(buy(product))


@pytest.mark.mariadb
def test_a_connection_the_server_closed_meanwhile_costs_no_sale(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(units=5, strategy="conditional_update")
    monkeypatch.setattr(engine, "CHECK_AFTER_IDLE_S", 0)
    monkeypatch.setattr(retries, "MOST_TRANSIENT_ERRORS", 1)

    async def story() -> Receipt:
        await buy(product)
        async with engine.transaction() as sale:
            ((number,),) = await sale.read("SELECT CONNECTION_ID()", [])
        await asyncio.to_thread(kill, number)
        return await buy(product)

    assert run(story()).available == 3


def kill(number: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"KILL {number}")
    connection.close()


@pytest.mark.mariadb
def test_is_busy_when_no_connection_is_free_in_time(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(units=5, strategy="conditional_update")
    monkeypatch.setattr(settings, "ASYNC_CONNECTIONS", 1)
    monkeypatch.setattr(engine, "POOL_WAIT_S", 0.1)

    async def story() -> None:
        async with engine.transaction():
            with pytest.raises(StockBusy):
                await buy(product)
        await buy(product)

    run(story())


@pytest.mark.mariadb
def test_200_buyers_at_once_never_open_more_connections_than_configured(
    committing: str, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(units=200, strategy=committing)
    monkeypatch.setattr(settings, "ASYNC_CONNECTIONS", 3)
    opened: list[object] = []

    async def story() -> Counter[str]:
        sync_engine = engine._engine().sync_engine
        event.listen(sync_engine, "connect", lambda *connected: opened.append(connected))
        return await tasks_race(200, lambda n: STRATEGIES[committing].asell_once(wish(product), 1))

    assert run(story())["sold"] > 0

    assert 1 <= len(opened) <= 3


def wish(product: Product) -> PurchaseRequest:
    return PurchaseRequest(
        product_id=product.pk,
        quantity=1,
        buyer=f"guest:{uuid.uuid4().hex}",
        key=uuid.uuid4(),
        unit_price=product.price,
        strategy=product.strategy,
    )


def test_what_has_no_native_form_sells_in_no_more_threads_than_configured(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(units=50, strategy="conditional_update")
    monkeypatch.setattr(settings, "ASYNC_THREADS", 3)
    monkeypatch.setattr(engine, "runs_here", lambda: False)
    seen: set[int] = set()
    sell = STRATEGIES["conditional_update"].sell

    def watched(request: Any) -> Receipt:
        seen.add(threading.get_ident())
        return sell(request)

    monkeypatch.setattr(STRATEGIES["conditional_update"], "sell", watched)

    assert run(tasks_race(50, lambda n: buy(product))) == {"sold": 50}

    assert 1 <= len(seen) <= 3
    assert audit(read_books(product.pk)) == []


def test_is_busy_when_no_thread_is_free_in_time_and_sells_nothing(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(units=5)
    monkeypatch.setattr(settings, "ASYNC_THREADS", 1)
    monkeypatch.setattr("inventory.purchases.QUEUE_WAIT_S", 0.1)
    release = threading.Event()

    async def story() -> None:
        hog = asyncio.create_task(threads.in_thread(release.wait, 5, 10))
        await asyncio.sleep(0)
        begun = time.monotonic()
        with pytest.raises(StockBusy):
            await buy(product)
        assert time.monotonic() - begun < 5
        release.set()
        await hog

    run(story())
    assert not Order.objects.exists()


def test_work_whose_waiter_leaves_before_it_begins_is_not_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "ASYNC_THREADS", 1)
    release, begun = threading.Event(), threading.Event()

    async def story() -> None:
        hog = asyncio.create_task(threads.in_thread(release.wait, 5, 10))
        await asyncio.sleep(0)
        assert await cancelled_after(3, threads.in_thread(begun.set, 5))
        release.set()
        await hog

    run(story())
    assert not begun.is_set()


@pytest.mark.mariadb
def test_accepts_on_a_redis_that_never_saw_the_script(make_product: MakeProduct) -> None:
    """As after its restart: the script is sent along then."""
    product = make_product(units=2, strategy="redis_counter")
    get_redis_connection("locks").script_flush()

    assert run(buy(product)).status == ACCEPTED
