"""Whatever happens to a product in whatever order, the books say what a small model says."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as bounded
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from conftest import SAFE, MakeProduct
from inventory import adjustments, holds, purchases
from inventory.audit import audit, read_books
from inventory.clock import MinutesFromNow
from inventory.errors import (
    AdjustmentRefused,
    HoldOver,
    InventoryError,
    KeyReused,
    LimitReached,
    NotHeld,
    SoldOut,
)
from inventory.models import Movement, Order, Payment, Stock
from inventory.purchases import purchase
from inventory.strategies import STRATEGIES

pytestmark = pytest.mark.django_db(transaction=True)

UNITS, LIMIT = 6, 3
strategies = [
    name
    for name in SAFE
    if name != "redis_counter" and STRATEGIES[name].unavailable_reason() is None
]
BUYERS = ["guest:ada", "guest:bob", "guest:eve"]
bounded_stories = bounded(
    max_examples=10,
    stateful_step_count=25,
    derandomize=True,
    phases=[Phase.generate],  # making a failure shorter takes minutes
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Told:
    """What the model knows of an order; `is_over` once the time of its hold has passed."""

    reference: uuid.UUID
    key: uuid.UUID
    buyer: str
    quantity: int
    status: str = "held"
    is_over: bool = False

    @property
    def is_kept(self) -> bool:
        return self.status in ("held", "paid")


class Story(RuleBasedStateMachine):
    """One product with hold, limit and payment, and all that may be done to it."""

    orders = Bundle("orders")
    payments = Bundle("payments")

    def __init__(self, make_product: MakeProduct) -> None:
        super().__init__()
        self.make_product = make_product
        self.available = UNITS
        self.told: list[Told] = []

    @initialize(strategy=st.sampled_from(strategies))
    def put_on_sale(self, strategy: str) -> None:
        terms = {"hold_minutes": 10, "limit_per_buyer": LIMIT, "strategy": strategy}
        self.product = self.make_product(f"lamp-{uuid.uuid4().hex}", units=UNITS, **terms)

    def teardown(self) -> None:
        """Leave nothing to the next story that would expire in it."""
        Order.objects.filter(status=Order.Status.HELD).update(expires_at=MinutesFromNow(10))

    def wish(self, buyer: str, quantity: int, key: uuid.UUID) -> Told:
        purchases._sold_out.forget()  # it may refuse for a moment what came back meanwhile
        receipt = purchase(slug=self.product.slug, quantity=quantity, buyer=buyer, key=key)
        return Told(receipt.order, key, buyer, quantity, receipt.status)

    def refusals_of(self, buyer: str, quantity: int) -> set[type[InventoryError]]:
        kept = sum(order.quantity for order in self.told if order.is_kept and order.buyer == buyer)
        refusals: set[type[InventoryError]] = set()
        if kept + quantity > LIMIT:
            refusals.add(LimitReached)
        if quantity > self.available:
            refusals.add(SoldOut)
        return refusals

    @rule(target=orders, buyer=st.sampled_from(BUYERS), quantity=st.integers(1, 4))
    def buy(self, buyer: str, quantity: int) -> object:
        refusals = self.refusals_of(buyer, quantity)
        if refusals:
            with pytest.raises(tuple(refusals)):
                self.wish(buyer, quantity, uuid.uuid4())
            return multiple()
        order = self.wish(buyer, quantity, uuid.uuid4())
        assert order.status == "held"
        self.told.append(order)
        self.available -= quantity
        return order

    @rule(order=orders)
    def buy_again_with_the_same_key(self, order: Told) -> None:
        again = self.wish(order.buyer, order.quantity, order.key)
        assert (again.reference, again.status) == (order.reference, order.status)

    @rule(order=orders)
    def buy_another_quantity_with_the_same_key(self, order: Told) -> None:
        with pytest.raises(KeyReused):
            self.wish(order.buyer, order.quantity + 1, order.key)

    @rule(target=payments, order=orders)
    def pay(self, order: Told) -> tuple[Told, str, int]:
        in_time = order.status == "held" and not order.is_over
        name = uuid.uuid4().hex
        payment = self.confirm(order, name)
        expected = Payment.Status.CONFIRMED if in_time else Payment.Status.REFUND_DUE
        assert payment.status == expected
        order.status = "paid" if in_time else order.status
        return order, name, payment.pk

    @rule(payment=payments)
    def have_it_confirmed_again(self, payment: tuple[Told, str, int]) -> None:
        order, name, known = payment
        assert self.confirm(order, name).pk == known

    def confirm(self, order: Told, name: str) -> Payment:
        total = order.quantity * self.product.price
        return holds.pay(
            reference=order.reference, provider="test", provider_reference=name, amount=total
        )

    @rule(order=orders)
    def cancel(self, order: Told) -> None:
        call = partial(holds.cancel, reference=order.reference, buyer=order.buyer)
        if order.status == "expired":
            with pytest.raises(HoldOver):
                call()
        elif order.status == "paid":
            with pytest.raises(NotHeld):
                call()
        else:
            call()
            self.call_off(order, "cancelled")

    @rule(order=orders)
    def cancel_for_the_buyer(self, order: Told) -> None:
        call = partial(
            holds.cancel_for_buyer, reference=order.reference, reason="broken", actor="desk"
        )
        if order.is_kept:
            call()
            self.call_off(order, "cancelled")
        else:
            with pytest.raises(HoldOver):
                call()

    def call_off(self, order: Told, status: str) -> None:
        self.available += order.quantity if order.is_kept else 0
        order.status = status

    @rule(order=orders)
    def let_the_time_pass(self, order: Told) -> None:
        Order.objects.filter(pk=order.reference).update(expires_at=MinutesFromNow(-1))
        order.is_over = True

    @rule()
    def release_what_is_over(self) -> None:
        over = [order for order in self.told if order.status == "held" and order.is_over]
        assert holds.release_expired() == len(over)
        for order in over:
            self.call_off(order, "expired")

    @rule(units=st.integers(1, 3))
    def restock(self, units: int) -> None:
        self.adjust(units, Movement.Kind.RESTOCK)
        self.available += units

    @rule(units=st.integers(1, 4))
    def correct_downwards(self, units: int) -> None:
        if units > self.available:
            with pytest.raises(AdjustmentRefused):
                self.adjust(-units, Movement.Kind.CORRECTION)
        else:
            self.adjust(-units, Movement.Kind.CORRECTION)
            self.available -= units

    def adjust(self, delta: int, kind: Movement.Kind) -> None:
        adjustments.adjust(
            product_id=self.product.pk, delta=delta, kind=kind, reason="counted", actor="desk"
        )

    @invariant()
    def the_books_are_clean_and_say_the_same(self) -> None:
        assert audit(read_books(self.product.pk)) == []
        assert Stock.objects.get(product=self.product).available == self.available >= 0
        statuses = dict(
            Order.objects.filter(product=self.product).values_list("reference", "status")
        )
        assert statuses == {order.reference: order.status for order in self.told}


def test_the_books_say_what_a_small_model_says(make_product: MakeProduct) -> None:
    begin = partial(Story, make_product)
    run_state_machine_as_test(begin, settings=bounded_stories)  # type: ignore[arg-type]
