"""Which error means what, code by code, and how a sale goes on after each."""

from __future__ import annotations

import math
import sqlite3
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import django.db
import pytest
from django.db import IntegrityError, OperationalError, connection, connections
from django.db.backends.utils import CursorWrapper

from conftest import Buy, MakeProduct
from inventory import retries, verdicts
from inventory.audit import audit, read_books
from inventory.errors import OutcomeUnknown, SoldOut, StockBusy
from inventory.ledger import PurchaseRequest, Receipt
from inventory.models import Order
from inventory.retries import Conflict, settle
from inventory.verdicts import Verdict, verdict_on

REQUEST = PurchaseRequest(
    product_id=1,
    quantity=1,
    buyer="guest:ada",
    key=uuid.uuid4(),
    unit_price=Decimal(1),
    strategy="optimistic",
    asked_at=math.inf,
)
"""Of a buyer who may be kept waiting."""
RECEIPT = Receipt(order=uuid.uuid4(), status="confirmed", quantity=1, stock_version=2, available=0)


class Script:
    """A `sell_once` that plays back: errors are raised, receipts returned; the last repeats."""

    def __init__(self, *steps: Exception | Receipt) -> None:
        self.steps = list(steps)
        self.attempts: list[int] = []

    def __call__(self, request: PurchaseRequest, attempt: int) -> Receipt:
        self.attempts.append(attempt)
        step = self.steps[min(len(self.attempts), len(self.steps)) - 1]
        if isinstance(step, Exception):
            raise step
        return step


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PAUSE_CAP_S", 0)


def mysql(code: int) -> OperationalError:
    return OperationalError(code, "as the driver says it")


def sqlite(code: int) -> OperationalError:
    cause = sqlite3.OperationalError("as the driver says it")
    cause.sqlite_errorcode = code
    error = OperationalError("as Django says it")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(("code", "verdict"), verdicts.MYSQL_VERDICTS.items())
def test_each_mysql_code_has_its_verdict(code: int, verdict: Verdict) -> None:
    assert verdict_on(mysql(code)) is verdict


@pytest.mark.parametrize(("code", "verdict"), verdicts.SQLITE_VERDICTS.items())
def test_each_sqlite_code_has_its_verdict(code: int, verdict: Verdict) -> None:
    assert verdict_on(sqlite(code)) is verdict


@pytest.mark.parametrize(
    "error", [mysql(1064), sqlite(1), OperationalError("no code"), OperationalError()]
)
def test_other_errors_are_bugs_and_are_raised(error: OperationalError) -> None:
    assert verdict_on(error) is Verdict.UNCLASSIFIED
    script = Script(error, RECEIPT)
    with pytest.raises(OperationalError):
        settle(script, REQUEST)
    assert script.attempts == [1]


@pytest.mark.parametrize("code", [1213, 1020, 1305])
def test_runs_a_rolled_back_sale_again(code: int) -> None:
    script = Script(mysql(code), mysql(code), mysql(code), mysql(code), RECEIPT)
    assert settle(script, REQUEST) is RECEIPT
    assert script.attempts == [1, 2, 3, 4, 5]


def test_gives_up_on_endless_deadlocks_as_busy() -> None:
    script = Script(mysql(1213))
    with pytest.raises(StockBusy) as busy:
        settle(script, REQUEST)
    assert busy.value.attempts == retries.MOST_TRANSIENT_ERRORS
    assert len(script.attempts) == retries.MOST_TRANSIENT_ERRORS


@pytest.mark.parametrize(
    "error", [*map(mysql, (1205, 3572, 1040, 1203, 1226, 2002, 2003)), sqlite(5), sqlite(6)]
)
def test_waits_for_a_lock_or_a_connection_twice_and_then_is_busy(error: OperationalError) -> None:
    assert settle(Script(error, RECEIPT), REQUEST) is RECEIPT
    script = Script(error)
    with pytest.raises(StockBusy):
        settle(script, REQUEST)
    assert script.attempts == [1, 2]


@pytest.mark.parametrize(
    "error",
    [
        *map(mysql, (1317, 1969, 3024, 1206, 1114, 1021, 1290, 1836, 1792)),
        sqlite(13),
        sqlite(8),
        sqlite(9),
    ],
)
def test_does_not_try_again_where_that_cannot_help(error: OperationalError) -> None:
    script = Script(error, RECEIPT)
    with pytest.raises(StockBusy):
        settle(script, REQUEST)
    assert script.attempts == [1]


@pytest.mark.parametrize(
    "error", [*map(mysql, (1114, 1021, 1206, 1290, 1836, 1792)), sqlite(13), sqlite(8)]
)
def test_raises_an_alarm_when_the_database_cannot_write(
    error: OperationalError, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(StockBusy):
        settle(Script(error), REQUEST)
    assert "cannot take sales" in caplog.text


@pytest.mark.parametrize("error", [*map(mysql, (4025, 3819, 1690)), sqlite(275)])
def test_a_guard_that_let_through_means_sold_out_and_an_alarm(
    error: OperationalError, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script(error, RECEIPT)
    with pytest.raises(SoldOut):
        settle(script, REQUEST)
    assert script.attempts == [1]
    assert "CHECK" in caplog.text


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("code", [2006, 2013, 1927])
def test_a_connection_lost_before_the_commit_is_replaced(code: int) -> None:
    script = Script(mysql(code), RECEIPT)
    before = connection.connection
    assert settle(script, REQUEST) is RECEIPT
    assert connection.connection is None or connection.connection is not before


def test_a_duplicate_that_is_not_this_key_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries.ledger, "find_receipt", lambda request: None)
    with pytest.raises(IntegrityError):
        settle(Script(IntegrityError(1062, "Duplicate entry")), REQUEST)


def test_conflicts_are_tried_until_the_budget_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "BUDGET_S", 0.05)
    monkeypatch.setattr(retries, "PAUSE_CAP_S", 0.002)
    begun = time.monotonic()
    script = Script(Conflict())
    with pytest.raises(StockBusy) as busy:
        settle(script, replace(REQUEST, asked_at=begun))
    assert busy.value.attempts == len(script.attempts) > 5
    assert time.monotonic() - begun < 1


def test_what_was_waited_before_counts_for_the_budget_but_each_buyer_gets_one_try() -> None:
    waited = replace(REQUEST, asked_at=time.monotonic() - retries.BUDGET_S)
    script = Script(Conflict())
    with pytest.raises(StockBusy):
        settle(script, waited)
    assert script.attempts == [1]
    assert settle(Script(RECEIPT), waited) is RECEIPT


def test_conflicts_never_count_as_sold_out_nor_as_database_errors() -> None:
    conflicts = [Conflict() for _ in range(50)]
    assert settle(Script(*conflicts, RECEIPT), REQUEST) is RECEIPT


def lose_the_answer_to_the_first_commit(
    monkeypatch: pytest.MonkeyPatch, *, after: Callable[[Any], None] | None
) -> None:
    """Commit (or not) and then break, once, as a lost connection does."""
    wrapper = type(connections["default"])
    commit = wrapper._commit
    lost: list[bool] = []
    call = CursorWrapper.execute

    def breaking_call(self: Any, statement: str, arguments: Any = None) -> Any:
        """Where the commit is in the procedure, it is the call that breaks."""
        if lost or not statement.startswith("CALL"):
            return call(self, statement, arguments)
        lost.append(True)
        if after is None:
            call(self, statement, arguments)
        raise OperationalError(2013, "Lost connection to server during query")

    monkeypatch.setattr(CursorWrapper, "execute", breaking_call)

    def breaking(self: Any) -> None:
        if lost:
            commit(self)
            return
        lost.append(True)
        if after is not None:
            after(self)
        else:
            commit(self)
        raise OperationalError(2013, "Lost connection to server during query")

    monkeypatch.setattr(wrapper, "_commit", breaking)


@pytest.mark.django_db(transaction=True)
def test_a_committed_sale_whose_answer_was_lost_is_found_by_its_key(
    committing: str, make_product: MakeProduct, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(units=5, strategy=committing)
    buy(product)  # the terms and the Redis lock are warm, so that the next commit is the sale's
    lose_the_answer_to_the_first_commit(monkeypatch, after=None)

    receipt = buy(product)

    assert receipt.replayed
    assert (receipt.available, Order.objects.count()) == (3, 2)
    assert audit(read_books(product.pk)) == []


@pytest.mark.django_db(transaction=True)
def test_a_sale_that_was_not_committed_is_made_again_under_its_key(
    committing: str, make_product: MakeProduct, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(units=5, strategy=committing)
    buy(product)
    lose_the_answer_to_the_first_commit(monkeypatch, after=lambda self: self._rollback())

    receipt = buy(product)

    assert not receipt.replayed
    assert (receipt.available, Order.objects.count()) == (3, 2)
    assert audit(read_books(product.pk)) == []


@pytest.mark.django_db(transaction=True)
def test_the_outcome_is_unknown_when_the_books_cannot_be_asked(
    committing: str, make_product: MakeProduct, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(units=5, strategy=committing)
    buy(product)
    key = uuid.uuid4()

    def unreachable(request: PurchaseRequest) -> None:
        raise mysql(2003)

    with monkeypatch.context() as outage:
        lose_the_answer_to_the_first_commit(outage, after=None)
        outage.setattr(retries.ledger, "find_receipt", unreachable)
        with pytest.raises(OutcomeUnknown):
            buy(product, buyer="guest:ada", key=key)

    assert buy(product, buyer="guest:ada", key=key).replayed, "the key tells the truth"
    assert Order.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_lost_commit_followed_by_lock_waits_ends_in_unknown_and_not_in_busy(
    committing: str, make_product: MakeProduct, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Busy says that nothing was sold, which nobody can know here."""
    product = make_product(units=5, strategy=committing)
    buy(product)
    codes = iter([2013])
    execute = CursorWrapper.execute

    def failing(self: Any) -> None:
        self._rollback()
        raise OperationalError(next(codes, 1205), "as the driver says it")

    def failing_call(self: Any, statement: str, arguments: Any = None) -> Any:
        if statement.startswith("CALL"):
            raise OperationalError(next(codes, 1205), "as the driver says it")
        return execute(self, statement, arguments)

    monkeypatch.setattr(type(connections["default"]), "_commit", failing)
    monkeypatch.setattr(CursorWrapper, "execute", failing_call)

    with pytest.raises(OutcomeUnknown):
        buy(product)


@pytest.mark.django_db(transaction=True)
def test_after_a_lost_commit_nobody_is_told_that_nothing_was_sold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Busy would be a lie: the old commit may still arrive."""
    monkeypatch.setattr(retries.ledger, "find_receipt", lambda request: None)
    script = Script(retries.CommitLost(), mysql(1205))
    with pytest.raises(OutcomeUnknown):
        settle(script, REQUEST)


@pytest.mark.mariadb
@pytest.mark.redis
@pytest.mark.django_db(transaction=True)
def test_a_connection_killed_by_the_server_costs_no_sale(
    committing: str, make_product: MakeProduct, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real thing: the server kills this very connection just before the commit."""
    product = make_product(units=5, strategy=committing)
    buy(product)
    commit = type(connections["default"])._commit
    execute = CursorWrapper.execute
    killed: list[int] = []

    def kill(thread_id: int) -> None:
        killed.append(thread_id)
        rival = connections["default"].copy()
        with rival.cursor() as cursor:
            cursor.execute(f"KILL {thread_id}")
        rival.close()

    def killed_before_commit(self: Any) -> None:
        if not killed:
            kill(self.connection.thread_id())
        commit(self)

    def killed_before_call(self: Any, statement: str, arguments: Any = None) -> Any:
        if statement.startswith("CALL") and not killed:
            kill(self.db.connection.thread_id())
        return execute(self, statement, arguments)

    monkeypatch.setattr(type(connections["default"]), "_commit", killed_before_commit)
    monkeypatch.setattr(CursorWrapper, "execute", killed_before_call)

    receipt = buy(product)

    assert killed
    assert receipt.available == 3
    assert Order.objects.count() == 2
    assert audit(read_books(product.pk)) == []


@pytest.mark.mariadb
@pytest.mark.django_db(transaction=True)
def test_a_real_check_violation_is_classified(make_product: MakeProduct) -> None:
    from inventory.models import Stock

    product = make_product(units=1)
    with pytest.raises(django.db.Error) as error:
        Stock.objects.filter(product_id=product.pk).update(available=-1)
    assert verdict_on(error.value) is Verdict.GUARD_REACHED
