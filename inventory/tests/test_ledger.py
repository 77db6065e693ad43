"""The ledger: every write of a stock row, what it refuses, and what holds it to that."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from conftest import SAFE, Buy, MakeProduct, settled
from inventory import adjustments, ledger, purchases, terms
from inventory.adjustments import MAX_UNITS
from inventory.audit import audit, read_books
from inventory.errors import (
    AdjustmentRefused,
    KeyReused,
    LimitReached,
    ProductNotFound,
    SoldOut,
)
from inventory.ledger import PurchaseRequest, Receipt
from inventory.models import Movement, Order, Product, Stock
from inventory.purchases import purchase
from inventory.strategies import STRATEGIES

pytestmark = pytest.mark.django_db(transaction=True)


def stock_of(product_id: int) -> tuple[int, int]:
    return Stock.objects.values_list("available", "version").get(product_id=product_id)


def last_movement(product_id: int) -> Movement:
    return Movement.objects.filter(product_id=product_id).latest("version")


def adjust(product: Product, delta: int, kind: Movement.Kind = Movement.Kind.CORRECTION) -> None:
    adjustments.adjust(
        product_id=product.pk, delta=delta, kind=kind, reason="counted", actor="user:7"
    )


def reset(*slugs: str, units: int) -> None:
    adjustments.reset(slugs=list(slugs), units=units, reason="new sale", actor="user:7")


def wish(product: Product, **fields: Any) -> PurchaseRequest:
    """A purchase request with defaults: one unit, a buyer and a key of its own."""
    values: dict[str, Any] = {
        "product_id": product.pk,
        "quantity": 1,
        "buyer": "guest:ada",
        "key": uuid.uuid4(),
        "unit_price": product.price,
        "strategy": product.strategy,
    }
    return PurchaseRequest(**(values | fields))


class TestAdjust:
    def test_a_restock_adds_units_with_one_movement(self, make_product: MakeProduct) -> None:
        product = make_product(units=10)

        adjust(product, 5, Movement.Kind.RESTOCK)

        written = last_movement(product.pk)
        assert stock_of(product.pk) == (15, 2)
        assert (written.kind, written.delta) == (Movement.Kind.RESTOCK, 5)
        assert (written.version, written.available_after) == (2, 15)
        assert (written.reason, written.actor, written.order_id) == ("counted", "user:7", None)
        assert Movement.objects.count() == 2
        assert audit(read_books(product.pk)) == []

    def test_a_correction_takes_units_down_to_none(self, make_product: MakeProduct) -> None:
        product = make_product(units=10)

        adjust(product, -10)

        written = last_movement(product.pk)
        assert stock_of(product.pk) == (0, 2)
        assert (written.kind, written.delta) == (Movement.Kind.CORRECTION, -10)
        assert (written.version, written.available_after) == (2, 0)
        assert audit(read_books(product.pk)) == []

    def test_fills_the_stock_up_to_the_most_there_can_be(self, make_product: MakeProduct) -> None:
        product = make_product(units=10)

        adjust(product, MAX_UNITS - 10)

        assert stock_of(product.pk) == (MAX_UNITS, 2)

    @pytest.mark.parametrize(
        "delta",
        [0, -11, MAX_UNITS - 9, 2**31, -(2**31) - 1, 2**63, 10**30, -(10**30)],
    )
    def test_refuses_what_leaves_no_sensible_count_and_changes_nothing(
        self, make_product: MakeProduct, delta: int
    ) -> None:
        product = make_product(units=10)

        with pytest.raises(AdjustmentRefused):
            adjust(product, delta)

        assert stock_of(product.pk) == (10, 1)
        assert Movement.objects.count() == 1

    def test_writes_no_units_when_the_movement_cannot_be_written(
        self, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        product = make_product(units=10)

        def fail(*args: object, **kwargs: object) -> None:
            raise RuntimeError("power cut")

        monkeypatch.setattr(adjustments, "_record_adjustment", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            adjust(product, 5)

        assert stock_of(product.pk) == (10, 1)

    def test_touches_no_other_product(self, make_product: MakeProduct) -> None:
        lamp, kettle = make_product("lamp", units=10), make_product("kettle", units=10)

        adjust(lamp, 5)

        assert stock_of(kettle.pk) == (10, 1)


class TestReset:
    @pytest.mark.parametrize(("units", "delta"), [(3, -7), (25, 15), (10, 0), (0, -10)])
    def test_writes_the_number_and_the_difference(
        self, make_product: MakeProduct, units: int, delta: int
    ) -> None:
        product = make_product(units=10)

        reset("lamp", units=units)

        written = last_movement(product.pk)
        assert stock_of(product.pk) == (units, 2)
        assert (written.kind, written.delta) == (Movement.Kind.RESET, delta)
        assert (written.version, written.available_after) == (2, units)
        assert (written.reason, written.actor) == ("new sale", "user:7")
        assert audit(read_books(product.pk)) == []

    def test_keeps_the_orders_made_before(self, make_product: MakeProduct, buy: Buy) -> None:
        product = make_product(units=10)
        buy(product, quantity=4)

        reset("lamp", units=10)

        assert stock_of(product.pk) == (10, 3)
        assert last_movement(product.pk).delta == 4
        assert Order.objects.count() == 1
        assert audit(read_books(product.pk)) == []

    def test_resets_several_products_each_by_its_own_difference(
        self, make_product: MakeProduct
    ) -> None:
        lamp, kettle = make_product("lamp", units=10), make_product("kettle", units=20)

        reset("kettle", "lamp", units=15)

        assert (stock_of(lamp.pk), stock_of(kettle.pk)) == ((15, 2), (15, 2))
        assert (last_movement(lamp.pk).delta, last_movement(kettle.pk).delta) == (5, -5)

    def test_resets_a_product_named_twice_once(self, make_product: MakeProduct) -> None:
        product = make_product(units=10)

        reset("lamp", "lamp", units=4)

        assert stock_of(product.pk) == (4, 2)

    def test_changes_none_of_several_when_one_is_unknown(self, make_product: MakeProduct) -> None:
        product = make_product(units=10)

        with pytest.raises(ProductNotFound) as error:
            reset("lamp", "unicorn", units=4)

        assert error.value.slug == "unicorn"
        assert stock_of(product.pk) == (10, 1)
        assert Movement.objects.count() == 1

    def test_changes_none_of_several_when_a_run_holds_the_last(
        self, make_product: MakeProduct
    ) -> None:
        """The first is written by then: it must be undone."""
        in_an_hour = timezone.now() + timedelta(hours=1)
        lamp = make_product("lamp", units=10)
        held = make_product("held", units=10, run_until=in_an_hour)

        with pytest.raises(AdjustmentRefused, match="held"):
            reset("lamp", "held", units=4)

        assert (stock_of(lamp.pk), stock_of(held.pk)) == ((10, 1), (10, 1))
        assert Movement.objects.count() == 2

    @pytest.mark.parametrize("units", [-1, MAX_UNITS + 1, 10**30])
    def test_refuses_an_absurd_number_and_changes_nothing(
        self, make_product: MakeProduct, units: int
    ) -> None:
        product = make_product(units=10)

        with pytest.raises(AdjustmentRefused):
            reset("lamp", units=units)

        assert stock_of(product.pk) == (10, 1)
        assert Movement.objects.count() == 1

    def test_refuses_while_a_run_is_on_and_resets_after_it(self, make_product: MakeProduct) -> None:
        now = timezone.now()
        product = make_product(units=10, run_until=now + timedelta(minutes=5))

        with pytest.raises(AdjustmentRefused, match="A load run holds “lamp”"):
            reset("lamp", units=4)
        assert stock_of(product.pk) == (10, 1)

        Product.objects.update(run_until=now - timedelta(seconds=1))
        reset("lamp", units=4)
        assert stock_of(product.pk) == (4, 2)

    def test_refuses_when_the_row_moved_since_it_was_read(
        self, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The lock keeps others out; should it not, the version does."""
        product = make_product(units=10)

        class OldRead:
            def get(self, *, product_id: int) -> Stock:
                return Stock(product_id=product_id, available=12, version=0)

        monkeypatch.setattr(Stock.objects, "select_for_update", OldRead)
        with pytest.raises(AdjustmentRefused, match="moved"):
            reset("lamp", units=4)

        assert stock_of(product.pk) == (10, 1)
        assert Movement.objects.count() == 1


def test_opening_the_stock_again_changes_nothing(make_product: MakeProduct) -> None:
    product = make_product(units=10)

    adjustments.open_stock(product_id=product.pk)

    assert stock_of(product.pk) == (10, 1)


class TestFindReceipt:
    def test_finds_what_the_key_bought_and_says_that_it_is_a_replay(
        self, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product(units=10)
        request = wish(product, quantity=2)
        sold = buy(product, quantity=2, buyer=request.buyer, key=request.key)
        buy(product)

        found = ledger.find_receipt(request)

        assert found is not None
        assert found.replayed
        assert (found.order, found.status, found.quantity) == (sold.order, "confirmed", 2)
        assert (found.available, found.stock_version) == (8, 2)

    def test_finds_nothing_for_a_new_key_or_another_buyer(
        self, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product(units=10)
        key = uuid.uuid4()
        buy(product, buyer="guest:ada", key=key)

        assert ledger.find_receipt(wish(product)) is None
        assert ledger.find_receipt(wish(product, buyer="guest:bob", key=key)) is None

    def test_refuses_the_key_of_another_quantity_or_product(
        self, make_product: MakeProduct, buy: Buy
    ) -> None:
        lamp, kettle = make_product("lamp"), make_product("kettle")
        key = uuid.uuid4()
        buy(lamp, buyer="guest:ada", key=key)

        with pytest.raises(KeyReused):
            ledger.find_receipt(wish(lamp, key=key, quantity=2))
        with pytest.raises(KeyReused):
            ledger.find_receipt(wish(kettle, key=key))


def violated(name: str, *columns: str) -> str:
    """What the error says: the constraint's name, or on SQLite a unique one's columns."""
    return "|".join([rf"\b{name}\b", *([r"UNIQUE.*" + ".*".join(columns)] if columns else [])])


class TestTheDatabaseItselfRefuses:
    """Raw writes, past every check in Python: the last line of defence."""

    def test_a_stock_below_zero(self, make_product: MakeProduct) -> None:
        product = make_product(units=10)

        with pytest.raises(IntegrityError, match=violated("stock_available_not_negative")):
            Stock.objects.update(available=-1)

        assert stock_of(product.pk) == (10, 1)

    def test_two_movements_of_one_version(self, make_product: MakeProduct) -> None:
        product = make_product(units=10)
        copy = Movement(
            product=product, version=1, kind=Movement.Kind.RESTOCK, delta=1, available_after=11
        )

        with pytest.raises(
            IntegrityError,
            match=violated("movement_one_per_product_and_version", "product_id", "version"),
        ):
            Movement.objects.bulk_create([copy])

    def test_two_orders_of_one_buyer_and_key(self, make_product: MakeProduct) -> None:
        request = wish(make_product(units=10))
        twins = [order_of(request), order_of(request)]

        with pytest.raises(
            IntegrityError, match=violated("order_one_per_buyer_and_key", "buyer", "key")
        ):
            Order.objects.bulk_create(twins)

        assert not Order.objects.exists()

    def test_an_order_for_no_units(self, make_product: MakeProduct) -> None:
        order = order_of(wish(make_product(units=10), quantity=0))

        with pytest.raises(IntegrityError, match=violated("order_quantity_positive")):
            Order.objects.bulk_create([order])

    def test_a_sale_that_closes_before_or_when_it_opens(self, make_product: MakeProduct) -> None:
        make_product(opens_at=timezone.now())

        for sooner in (timedelta(0), timedelta(seconds=1)):
            closes_at = Product.objects.get().opens_at
            assert closes_at is not None
            with pytest.raises(IntegrityError, match=violated("product_closes_after_it_opens")):
                Product.objects.update(closes_at=closes_at - sooner)

    def test_the_control_on_a_product_that_is_not_the_lab_s(
        self, make_product: MakeProduct
    ) -> None:
        make_product("lamp")
        make_product("lab", is_lab=True, strategy="unguarded")

        name = violated("product_control_only_in_lab")
        with pytest.raises(IntegrityError, match=name):
            Product.objects.filter(slug="lamp").update(strategy="unguarded")
        with pytest.raises(IntegrityError, match=name):
            Product.objects.filter(slug="lab").update(is_lab=False)

    def test_a_price_below_zero(self, make_product: MakeProduct) -> None:
        make_product()

        with pytest.raises(IntegrityError, match=violated("product_price_not_negative")):
            Product.objects.update(price=Decimal("-0.01"))


def order_of(request: PurchaseRequest) -> Order:
    return Order(
        product_id=request.product_id,
        buyer=request.buyer,
        key=request.key,
        quantity=request.quantity,
        unit_price=request.unit_price,
        strategy=request.strategy,
    )


def stored(model: type[Order] | type[Movement], but: str = "") -> dict[str, object]:
    """Read the only such row as the database has it, past every conversion."""
    table = connection.ops.quote_name(model._meta.db_table)
    latest = connection.ops.quote_name("created_at")
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table} ORDER BY {latest} DESC LIMIT 1")  # noqa: S608  # the models' names
        names = [column[0] for column in cursor.description]
        row = dict(zip(names, cursor.fetchone(), strict=True))
    row.pop(but, None)
    return row


class TestInsert:
    """The prepared INSERT and the ORM's own store the same, in every column."""

    def test_stores_an_order_as_its_save_would(self, make_product: MakeProduct) -> None:
        order = order_of(wish(make_product(units=10), quantity=3, buyer="guest:Zoë"))
        order.attempts = 4

        ledger._insert([order])
        inserted = stored(Order)
        assert Order.objects.get() == order
        Order.objects.all().delete()
        order.save(force_insert=True)

        assert inserted == stored(Order)
        assert set(inserted) == {field.column for field in Order._meta.concrete_fields}

    @pytest.mark.parametrize("with_order", [True, False])
    def test_stores_a_movement_as_its_save_would(
        self, make_product: MakeProduct, with_order: bool
    ) -> None:
        product = make_product(units=10)
        order = order_of(wish(product))
        ledger._insert([order])
        movement = Movement(
            product=product,
            version=2,
            kind=Movement.Kind.SALE,
            delta=-3,
            available_after=7,
            order=order if with_order else None,
            reason="50 % “off”",
            actor="guest:Zoë",
            created_at=timezone.now() + timedelta(seconds=1),
        )

        ledger._insert([movement])
        inserted = stored(Movement, but="id")
        assert Movement.objects.get(version=2).order_id == movement.order_id
        Movement.objects.filter(version=2).delete()
        movement.save(force_insert=True)

        assert inserted == stored(Movement, but="id")
        assert set(inserted) | {"id"} == {f.column for f in Movement._meta.concrete_fields}

    def test_gives_the_row_up_with_its_transaction(self, make_product: MakeProduct) -> None:
        order = order_of(wish(make_product(units=10)))

        with transaction.atomic():
            ledger._insert([order])
            transaction.set_rollback(True)

        assert not Order.objects.exists()


class TestPlaceAndClose:
    """What a sale or a group of them writes, around the write of the stock row."""

    def place(self, *requests: PurchaseRequest, attempts: int = 1) -> list[Order]:
        return ledger.place_orders(requests, attempts=attempts)

    def sell(self, *requests: PurchaseRequest, available: int, version: int) -> list[Receipt]:
        with transaction.atomic():
            return ledger.close_sales(
                requests, self.place(*requests), version=version, available_after=available
            )

    def test_places_one_order_each_with_what_was_asked_for(self, make_product: MakeProduct) -> None:
        product, reference = make_product(units=10), uuid.uuid4()
        ada = wish(product, quantity=3, reference=reference, unit_price=Decimal("9.99"))
        bob = wish(product, buyer="guest:bob", strategy="optimistic")

        placed = self.place(ada, bob, attempts=4)

        assert placed[0].reference == reference, "as the buyer was told"
        for request, order in zip((ada, bob), placed, strict=True):
            stored = Order.objects.get(reference=order.reference)
            assert (stored.product_id, stored.buyer, stored.key, stored.quantity) == (
                product.pk,
                request.buyer,
                request.key,
                request.quantity,
            )
            assert (stored.unit_price, stored.strategy) == (request.unit_price, request.strategy)
            assert (stored.attempts, stored.status) == (4, Order.Status.CONFIRMED)
        assert stock_of(product.pk) == (10, 1)
        assert Movement.objects.count() == 1

    def test_places_none_of_several_when_one_key_has_an_order(
        self, make_product: MakeProduct
    ) -> None:
        product = make_product(units=10)
        sold = wish(product)
        self.place(sold)

        with pytest.raises(IntegrityError):
            self.place(wish(product, buyer="guest:bob"), sold)

        assert Order.objects.get().buyer == "guest:ada"

    def test_closes_sales_one_after_another_up_to_the_row_as_it_was_written(
        self, make_product: MakeProduct
    ) -> None:
        product = make_product(units=20)
        requests = [wish(product, quantity=quantity) for quantity in (2, 3, 5)]

        receipts = self.sell(*requests, available=7, version=9)

        assert [receipt.stock_version for receipt in receipts] == [7, 8, 9]
        assert [receipt.available for receipt in receipts] == [15, 12, 7]
        assert [receipt.quantity for receipt in receipts] == [2, 3, 5]
        for request, receipt in zip(requests, receipts, strict=True):
            sale = Movement.objects.get(order_id=receipt.order)
            assert sale.order is not None
            assert sale.order.key == request.key
            assert (sale.version, sale.available_after) == (
                receipt.stock_version,
                receipt.available,
            )
            assert (sale.kind, sale.delta, sale.actor) == ("sale", -request.quantity, "guest:ada")
            assert sale.created_at == sale.order.created_at

    def test_a_buyer_may_own_as_many_as_the_limit_says(self, make_product: MakeProduct) -> None:
        product = make_product(units=10)
        self.sell(wish(product, quantity=2, limit=3), available=8, version=2)

        (receipt,) = self.sell(wish(product, quantity=1, limit=3), available=7, version=3)

        assert receipt.available == 7

    def test_refuses_what_passes_the_limit_and_says_which(self, make_product: MakeProduct) -> None:
        product = make_product(units=10)
        self.sell(wish(product, quantity=2, limit=3), available=8, version=2)

        with pytest.raises(LimitReached) as refusal:
            self.sell(wish(product, quantity=2, limit=3), available=6, version=3)

        assert refusal.value.limit == 3
        assert Order.objects.count() == 1, "and wrote nothing"

    def test_refuses_the_group_for_each_buyer_s_own_limit(self, make_product: MakeProduct) -> None:
        product = make_product(units=10)
        ada = wish(product, quantity=4, limit=4)
        bob = wish(product, buyer="guest:bob", quantity=3, limit=2)

        with pytest.raises(LimitReached) as refusal:
            self.sell(ada, bob, available=3, version=3)

        assert refusal.value.limit == 2

    def test_adds_up_what_one_buyer_asks_for_twice_in_a_group(
        self, make_product: MakeProduct
    ) -> None:
        product = make_product(units=10)

        with pytest.raises(LimitReached):
            self.sell(
                *[wish(product, quantity=2, limit=3) for _ in range(2)], available=6, version=3
            )

    def test_asks_nothing_of_the_orders_where_nobody_has_a_limit(
        self, make_product: MakeProduct
    ) -> None:
        product = make_product(units=10)

        with CaptureQueriesContext(connection) as queries:
            self.sell(wish(product), wish(product), available=8, version=3)

        assert not [query for query in queries if "SUM" in query["sql"]]

    def test_counts_neither_other_products_nor_other_buyers(
        self, make_product: MakeProduct
    ) -> None:
        lamp, vase = make_product("lamp"), make_product("vase")
        self.sell(wish(vase, quantity=5), available=5, version=2)
        self.sell(wish(lamp, quantity=5, buyer="guest:bob"), available=5, version=2)

        (receipt,) = self.sell(wish(lamp, quantity=2, limit=2), available=3, version=3)

        assert receipt.available == 3

    def test_a_buyer_without_a_limit_is_not_held_to_another_s(
        self, make_product: MakeProduct
    ) -> None:
        product = make_product(units=10)
        free = wish(product, buyer="guest:bob", quantity=7)

        receipts = self.sell(free, wish(product, limit=1), available=2, version=3)

        assert [receipt.available for receipt in receipts] == [3, 2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    buyer: str
    key: uuid.UUID
    quantity: int
    order: uuid.UUID
    available: int
    version: int


USABLE = [name for name in SAFE if STRATEGIES[name].unavailable_reason() is None]
WAYS = st.sampled_from(USABLE)
QUANTITIES = st.integers(1, 5)


class AnyOneAfterAnother(RuleBasedStateMachine):
    """
    Whatever is done to one product, in whatever order, by whatever strategy.

    The model is one integer, how often it was written, and a list of sales.
    """

    def __init__(self) -> None:
        super().__init__()
        self.product = Product.objects.create(
            slug=f"any-{uuid.uuid4().hex}", name="Any", price=Decimal("12.50")
        )
        adjustments.open_stock(product_id=self.product.pk)
        self.available = 0
        self.writes = 0
        self.sales: list[Sale] = []

    def written(self, available: int) -> None:
        self.available = available
        self.writes += 1

    def pick(self, data: st.DataObject) -> Sale:
        return data.draw(st.sampled_from(self.sales))

    def buy(self, way: str, quantity: int, buyer: str, key: uuid.UUID) -> ledger.Receipt:
        Product.objects.filter(pk=self.product.pk).update(strategy=way)
        terms.forget()
        purchases._sold_out.forget()
        receipt = purchase(slug=self.product.slug, quantity=quantity, buyer=buyer, key=key)
        return settled(self.product, receipt, buyer)

    @rule(units=st.integers(1, 6))
    def restock(self, units: int) -> None:
        adjust(self.product, units, Movement.Kind.RESTOCK)
        self.written(self.available + units)

    @rule(delta=st.integers(-6, 6))
    def correct(self, delta: int) -> None:
        if delta == 0 or self.available + delta < 0:
            with pytest.raises(AdjustmentRefused):
                adjust(self.product, delta)
        else:
            adjust(self.product, delta)
            self.written(self.available + delta)

    @rule(units=st.integers(-1, 6))
    def reset(self, units: int) -> None:
        if units < 0:
            with pytest.raises(AdjustmentRefused):
                reset(self.product.slug, units=units)
        else:
            reset(self.product.slug, units=units)
            self.written(units)

    @rule(way=WAYS, quantity=QUANTITIES, buyer=st.sampled_from(["guest:ada", "guest:bob"]))
    def buy_anew(self, way: str, quantity: int, buyer: str) -> None:
        key = uuid.uuid4()
        if quantity > self.available:
            with pytest.raises(SoldOut) as refusal:
                self.buy(way, quantity, buyer, key)
            assert refusal.value.available == self.available
            return
        receipt = self.buy(way, quantity, buyer, key)
        self.written(self.available - quantity)
        assert not receipt.replayed
        assert (receipt.available, receipt.stock_version) == (self.available, self.writes)
        assert receipt.available is not None
        assert receipt.stock_version is not None
        self.sales.append(
            Sale(
                buyer=buyer,
                key=key,
                quantity=quantity,
                order=receipt.order,
                available=receipt.available,
                version=receipt.stock_version,
            )
        )

    @precondition(lambda self: self.sales)
    @rule(way=WAYS, data=st.data())
    def send_an_earlier_key_again(self, way: str, data: st.DataObject) -> None:
        sale = self.pick(data)
        receipt = self.buy(way, sale.quantity, sale.buyer, sale.key)
        assert receipt.replayed
        assert (receipt.order, receipt.quantity) == (sale.order, sale.quantity)
        assert (receipt.available, receipt.stock_version) == (sale.available, sale.version)

    @precondition(lambda self: self.sales)
    @rule(way=WAYS, data=st.data(), quantity=QUANTITIES)
    def send_an_earlier_key_for_another_quantity(
        self, way: str, data: st.DataObject, quantity: int
    ) -> None:
        sale = self.pick(data)
        other = quantity if quantity != sale.quantity else quantity + 1
        with pytest.raises(KeyReused):
            self.buy(way, other, sale.buyer, sale.key)

    @invariant()
    def the_stock_row_is_as_the_model_says(self) -> None:
        assert stock_of(self.product.pk) == (self.available, self.writes)

    @invariant()
    def the_books_agree_and_hold_the_sales_made(self) -> None:
        books = read_books(self.product.pk)
        assert audit(books) == []
        assert {(order.reference, order.key, order.quantity) for order in books.orders} == {
            (sale.order, sale.key, sale.quantity) for sale in self.sales
        }


def test_the_books_agree_whatever_is_done_in_whatever_order() -> None:
    run_state_machine_as_test(
        AnyOneAfterAnother,
        settings=settings(
            max_examples=30,
            stateful_step_count=20,
            deadline=None,
            phases=set(Phase) - {Phase.shrink},  # minutes on a database; 20 steps can be read
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


class TestEdges:
    def test_refuses_a_reason_that_the_column_cannot_hold(self, make_product: MakeProduct) -> None:
        product = make_product(units=5)
        with pytest.raises(AdjustmentRefused, match="at most 200"):
            adjustments.reset(slugs=[product.slug], units=1, reason="x" * 201, actor="test")
        with pytest.raises(AdjustmentRefused, match="at most 200"):
            adjustments.adjust(
                product_id=product.pk,
                delta=1,
                kind=Movement.Kind.RESTOCK,
                reason="x" * 201,
                actor="test",
            )
        assert stock_of(product.pk) == (5, 1)

    def test_a_product_whose_stock_row_is_gone_gets_a_new_one(
        self, make_product: MakeProduct
    ) -> None:
        product = make_product(units=0)
        Stock.objects.all().delete()
        adjustments.reset(slugs=[product.slug], units=4, reason="found", actor="test")
        assert stock_of(product.pk) == (4, 1)

    def test_an_audit_finds_a_deleted_stock_row(self, make_product: MakeProduct) -> None:
        product = make_product(units=5)
        Stock.objects.all().delete()
        assert {"available_differs", "writes_differ"} == {
            finding.code for finding in audit(read_books(product.pk))
        }

    @pytest.mark.mariadb
    def test_a_reset_waits_for_a_run_that_is_just_claiming_the_product(
        self, make_product: MakeProduct
    ) -> None:
        """Otherwise it would land in the middle of that run."""
        product = make_product(units=5)
        claimed, resetting = threading.Event(), threading.Event()

        def claim() -> None:
            with transaction.atomic():
                until = timezone.now() + timedelta(minutes=1)
                assert adjustments.hold_for_run(product_id=product.pk, until=until)
                claimed.set()
                resetting.wait(5)
                eventually_waited_for()
            connection.close()

        def eventually_waited_for() -> None:
            deadline = time.monotonic() + 5
            with connection.cursor() as cursor:
                while time.monotonic() < deadline:
                    cursor.execute("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'")
                    if int(cursor.fetchone()[1]):
                        return
                    time.sleep(0.01)
            pytest.fail("the reset did not wait")

        with ThreadPoolExecutor(1) as pool:
            claiming = pool.submit(claim)
            claimed.wait(5)
            resetting.set()
            with pytest.raises(AdjustmentRefused, match="load run"):
                adjustments.reset(slugs=[product.slug], units=1, reason="race", actor="test")
            claiming.result()
        assert stock_of(product.pk) == (5, 1)
