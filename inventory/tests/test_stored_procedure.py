"""The rule written in the database's own language: what it costs, refuses and takes back."""

from __future__ import annotations

import importlib
import threading
import time
import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DataError, IntegrityError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from conftest import Buy, MakeProduct
from inventory import retries
from inventory.audit import audit, read_books
from inventory.errors import LimitReached, SoldOut, StockBusy, StrategyUnavailable
from inventory.ledger import PurchaseRequest, Receipt
from inventory.models import Movement, Order, Product, Stock
from inventory.strategies import STRATEGIES

first = importlib.import_module("inventory.migrations.0003_sell_procedure")
migration = importlib.import_module("inventory.migrations.0005_sell_procedure_holds")
pytestmark = pytest.mark.django_db(transaction=True)
on_mariadb = pytest.mark.mariadb
on_sqlite = pytest.mark.skipif(
    connection.vendor != "sqlite", reason="runs in the first half of make test"
)
WAIT_S = 20


def wish(product: Product, **fields: Any) -> PurchaseRequest:
    values: dict[str, Any] = {
        "product_id": product.pk,
        "quantity": 1,
        "buyer": "guest:ada",
        "key": uuid.uuid4(),
        "unit_price": product.price,
        "strategy": "stored_procedure",
    }
    return PurchaseRequest(**(values | fields))


def sell(product: Product, **fields: Any) -> Receipt:
    return STRATEGIES["stored_procedure"].sell(wish(product, **fields))


def stock_of(product: Product) -> tuple[int, int]:
    return Stock.objects.values_list("available", "version").get(product_id=product.pk)


def ask(statement: str) -> Any:
    """Run one statement on this very connection; its first value."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def a_transaction_is_open() -> bool:
    return bool(ask("SELECT @@in_transaction"))


def statements_sent() -> int:
    """Count what this connection has sent the server, this question included."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Questions'")
        return int(cursor.fetchone()[1])


def procedures() -> int:
    counted: int = ask(
        "SELECT COUNT(*) FROM information_schema.routines"
        " WHERE routine_schema = DATABASE() AND routine_name = 'inventory_sell'"
    )
    return counted


@on_mariadb
class TestOneRoundTrip:
    def test_a_sale_sends_the_server_one_statement(self, make_product: MakeProduct) -> None:
        product = make_product(units=5)
        sell(product)
        before = statements_sent()

        with CaptureQueriesContext(connection) as queries:
            sell(product, limit=3)

        assert statements_sent() - before - 1 == 1
        assert [query["sql"].split("(")[0] for query in queries] == ["CALL inventory_sell"]

    def test_a_refusal_sends_the_server_one_statement(self, make_product: MakeProduct) -> None:
        product = make_product(units=5)
        sell(product)
        before = statements_sent()

        with pytest.raises(SoldOut):
            sell(product, quantity=6)

        assert statements_sent() - before - 1 == 1

    def test_leaves_no_result_unread_for_the_next_statement_to_stumble_over(
        self, make_product: MakeProduct
    ) -> None:
        product = make_product(units=2)

        sell(product)
        assert ask("SELECT 42") == 42
        with pytest.raises(SoldOut):
            sell(product, quantity=2)
        assert ask("SELECT 43") == 43
        with pytest.raises(LimitReached):
            sell(product, limit=1)
        assert ask("SELECT 44") == 44

    @pytest.mark.parametrize("hold_minutes", [None, 10])
    def test_writes_the_rows_that_the_ledger_would(
        self, make_product: MakeProduct, hold_minutes: int | None
    ) -> None:
        """The same rule in two languages leaves the same books."""
        rows = []
        for name in ("conditional_update", "stored_procedure"):
            product = make_product(name.replace("_", "-"), units=9)
            request = wish(
                product,
                quantity=3,
                buyer="guest:Zoë",
                unit_price=Decimal("7.35"),
                strategy="same",
                limit=3,
                hold_minutes=hold_minutes,
                reference=uuid.uuid4(),
            )
            begun = timezone.now()

            receipt = STRATEGIES[name].sell_once(request, 4)

            order = Order.objects.get(reference=receipt.order)
            sale = Movement.objects.get(order=order)
            assert order.product_id == sale.product_id == product.pk
            assert order.reference == request.reference
            assert order.key == request.key
            assert order.created_at == sale.created_at
            assert begun <= order.created_at <= begun + timedelta(seconds=5)
            if hold_minutes:
                assert order.expires_at is not None
                held_for = order.expires_at - order.created_at
                assert abs(held_for - timedelta(minutes=10)) < timedelta(seconds=5)
            told = (receipt.status, receipt.quantity, receipt.stock_version, receipt.available)
            rows.append(
                (
                    told,
                    receipt.replayed,
                    *(order.buyer, order.quantity, order.unit_price, order.status),
                    *(order.strategy, order.attempts, order.expires_at is None),
                    *(sale.version, sale.kind, sale.delta, sale.available_after),
                    *(sale.reason, sale.actor),
                    stock_of(product),
                )
            )

        assert rows[0] == rows[1]


@on_mariadb
class TestRefuses:
    def test_a_key_sold_before_is_answered_with_that_sale(self, make_product: MakeProduct) -> None:
        product = make_product(units=5)
        request = wish(product)
        first = STRATEGIES["stored_procedure"].sell(request)

        again = STRATEGIES["stored_procedure"].sell(request)

        assert (again.order, again.replayed) == (first.order, True)
        assert not a_transaction_is_open()
        assert stock_of(product) == (4, 2)
        assert audit(read_books(product.pk)) == []

    def test_more_than_the_limit_and_takes_the_units_back(self, make_product: MakeProduct) -> None:
        product = make_product(units=5)
        sell(product, quantity=2, limit=3)
        sell(make_product("vase", units=9), quantity=3, limit=3)

        with pytest.raises(LimitReached) as refusal:
            sell(product, quantity=2, limit=3)

        assert refusal.value.limit == 3
        assert not a_transaction_is_open()
        assert stock_of(product) == (3, 2)
        assert sell(product, limit=3).available == 2, "up to the limit it sells"
        assert sell(product, buyer="guest:bob", quantity=2, limit=2).available == 0
        assert audit(read_books(product.pk)) == []

    def test_more_than_there_is_and_takes_the_order_back(self, make_product: MakeProduct) -> None:
        product = make_product(units=2)

        with pytest.raises(SoldOut) as refusal:
            sell(product, quantity=3)

        assert refusal.value.available == 2
        assert not a_transaction_is_open()
        assert stock_of(product) == (2, 1)
        assert not Order.objects.exists()

    def test_a_buyer_too_long_for_the_column(self, make_product: MakeProduct) -> None:
        """Strict mode holds for the procedure's parameters too: nothing is cut to fit."""
        product = make_product(units=2)

        with pytest.raises(DataError):
            sell(product, buyer="x" * 49)

        assert stock_of(product) == (2, 1)
        assert not Order.objects.exists()

    def test_to_run_inside_a_transaction_and_leaves_that_one_alone(
        self, make_product: MakeProduct
    ) -> None:
        """START TRANSACTION in the procedure would commit what was open."""
        product = make_product(units=5)

        with transaction.atomic():
            Product.objects.filter(pk=product.pk).update(name="Changed")
            with pytest.raises(RuntimeError, match="durable"):
                sell(product)
            transaction.set_rollback(True)

        assert stock_of(product) == (5, 1)
        assert Product.objects.get().name == "Lamp"


@on_mariadb
class TestTakesEverythingBack:
    def test_when_the_movement_cannot_be_written(self, make_product: MakeProduct) -> None:
        product = make_product(units=5)
        in_the_way = Movement.objects.create(
            product=product, version=2, kind=Movement.Kind.CORRECTION, delta=0, available_after=5
        )

        with pytest.raises(IntegrityError):
            sell(product)

        assert not a_transaction_is_open()
        assert stock_of(product) == (5, 1)
        assert not Order.objects.exists()
        in_the_way.delete()
        assert sell(product).available == 4, "and the connection sells on"
        assert audit(read_books(product.pk)) == []

    def test_when_another_holds_the_row_too_long(
        self, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The order is written by then, and innodb_rollback_on_timeout may be off elsewhere."""
        monkeypatch.setattr(retries, "PAUSE_CAP_S", 0)
        product = make_product(units=5)
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with transaction.atomic():
                Stock.objects.select_for_update().get(product_id=product.pk)
                held.set()
                done.wait(WAIT_S)
            connection.close()

        holder = threading.Thread(target=hold, daemon=True)
        holder.start()
        assert held.wait(WAIT_S)
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")

        with pytest.raises(StockBusy) as busy:
            sell(product)

        was_open = a_transaction_is_open()
        done.set()
        holder.join(WAIT_S)
        connection.close()
        assert busy.value.attempts == 2
        assert not was_open
        assert stock_of(product) == (5, 1)
        assert not Order.objects.exists()
        assert sell(product).available == 4

    def test_when_the_call_is_killed_half_way(self, make_product: MakeProduct) -> None:
        """The order is written and the units taken by then: it waits to write the movement."""
        product = make_product(units=5)
        held, killed = threading.Event(), threading.Event()
        seller = ask("SELECT CONNECTION_ID()")

        def is_writing_the_movement() -> bool:
            with connection.cursor() as cursor:
                cursor.execute("SHOW FULL PROCESSLIST")
                running = {row[0]: row[7] or "" for row in cursor.fetchall()}
            return "INSERT INTO inventory_movement" in running[seller]

        def stand_in_the_way_and_kill() -> None:
            with transaction.atomic():
                Movement.objects.create(
                    product=product, version=2, kind="correction", delta=0, available_after=5
                )
                held.set()
                deadline = time.monotonic() + WAIT_S
                while not is_writing_the_movement() and time.monotonic() < deadline:
                    time.sleep(0.001)
                with connection.cursor() as cursor:
                    cursor.execute(f"KILL QUERY {seller}")
                killed.wait(WAIT_S)
                transaction.set_rollback(True)
            connection.close()

        killer = threading.Thread(target=stand_in_the_way_and_kill, daemon=True)
        killer.start()
        assert held.wait(WAIT_S)

        with pytest.raises(StockBusy) as busy:
            sell(product)

        was_open = a_transaction_is_open()
        killed.set()
        killer.join(WAIT_S)
        assert isinstance(busy.value.__cause__, OperationalError)
        assert busy.value.__cause__.args[0] == 1317
        assert not was_open
        assert stock_of(product) == (5, 1)
        assert not Order.objects.exists()
        assert sell(product).available == 4


class TestTheMigration:
    @on_mariadb
    def test_drops_the_procedure_backwards_and_makes_it_forwards(
        self, make_product: MakeProduct
    ) -> None:
        product = make_product(units=5)
        try:
            call_command("migrate", "inventory", "0002", verbosity=0)
            assert procedures() == 0
            call_command("migrate", "inventory", "0004", verbosity=0)
            assert procedures() == 1
        finally:
            call_command("migrate", verbosity=0)

        assert procedures() == 1
        assert sell(product).available == 4

    @on_mariadb
    def test_may_run_where_the_procedure_is_left_from_an_attempt_before(self) -> None:
        with connection.schema_editor() as editor:
            first.drop(None, editor)
            first.drop(None, editor)
            assert procedures() == 0
            first.create(None, editor)
            migration.create(None, editor)
            migration.create(None, editor)

        assert procedures() == 1

    @on_sqlite
    def test_does_nothing_on_sqlite(self) -> None:
        with connection.schema_editor() as editor, CaptureQueriesContext(connection) as queries:
            migration.create(None, editor)
            migration.create_as_it_was(None, editor)
            first.drop(None, editor)

        assert list(queries) == []


class TestWhereItCanSell:
    @on_mariadb
    def test_sells_on_mariadb(self) -> None:
        assert STRATEGIES["stored_procedure"].unavailable_reason() is None

    @on_sqlite
    def test_says_what_is_missing_on_sqlite(self, make_product: MakeProduct, buy: Buy) -> None:
        product = make_product(units=5, strategy="stored_procedure")

        with pytest.raises(StrategyUnavailable) as refusal:
            buy(product)

        assert refusal.value.reason == "it needs MariaDB or MySQL"
        assert stock_of(product) == (5, 1)
