"""Holds: paid, cancelled or expired, whoever is faster; the units back exactly once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, transaction

from conftest import SAFE, Buy, MakeProduct, drain, settled
from inventory import adjustments, counter, holds, terms
from inventory.audit import audit, read_books
from inventory.clock import DatabaseNow, MinutesFromNow
from inventory.consumer import Consumer
from inventory.counter import Settlement
from inventory.errors import (
    AdjustmentRefused,
    HoldOver,
    LimitReached,
    NotHeld,
    OrderNotFound,
    PaymentReused,
    StockBusy,
)
from inventory.ledger import PurchaseRequest, Receipt
from inventory.models import Movement, Order, Payment, Product, Stock
from inventory.purchases import apurchase, purchase
from inventory.strategies import STRATEGIES
from inventory.strategies.group_commit import GroupCommit
from inventory.tests.races import Crowd, run
from inventory.tests.servers import child_environment

pytestmark = pytest.mark.django_db(transaction=True)

BUYER = "guest:ada"
WAIT_S = 30


def held(product: Product, *, quantity: int = 1, buyer: str = BUYER) -> Order:
    """Buy what is held for payment."""
    receipt = purchase(slug=product.slug, quantity=quantity, buyer=buyer, key=uuid.uuid4())
    return Order.objects.get(pk=settled(product, receipt, buyer).order)


def end_of_hold(order: Order, minutes: int = -1) -> None:
    """Move the end of a hold, to a moment that is over if nothing else is said."""
    Order.objects.filter(pk=order.pk).update(expires_at=MinutesFromNow(minutes))


def pay(order: Order, name: str = "payment-1", amount: Decimal | None = None) -> Payment:
    return holds.pay(
        reference=order.pk,
        provider="test",
        provider_reference=name,
        amount=order.total if amount is None else amount,
    )


def status_of(order: Order) -> str:
    return Order.objects.values_list("status", flat=True).get(pk=order.pk)


def available(product: Product) -> int:
    return Stock.objects.values_list("available", flat=True).get(product=product)


def returns_of(order: Order) -> list[tuple[str, int, str]]:
    kinds = [Movement.Kind.CANCELLATION, Movement.Kind.EXPIRY]
    given = Movement.objects.filter(order=order, kind__in=kinds)
    return list(given.values_list("kind", "delta", "actor"))


def findings(product: Product) -> list[str]:
    return [finding.code for finding in audit(read_books(product.pk))]


def database_now() -> datetime:
    now: datetime = Product.objects.values_list(DatabaseNow(), flat=True)[0]
    return now


@pytest.fixture
def lamp(make_product: MakeProduct) -> Product:
    """A product that is held for 10 minutes."""
    return make_product(units=10, hold_minutes=10)


class TestHeldSale:
    @pytest.fixture(params=["purchase", "apurchase"])
    def buy_held(self, request: pytest.FixtureRequest) -> Buy:
        def buy(product: Product, **wish: Any) -> Receipt:
            wish = {"quantity": 1, "buyer": BUYER, "key": uuid.uuid4(), **wish}
            wish["slug"] = product.slug
            asked = purchase(**wish) if request.param == "purchase" else run(apurchase(**wish))
            return settled(product, asked, wish["buyer"])

        return buy

    def test_holds_the_units_until_the_minutes_are_over(
        self, strategy: str, make_product: MakeProduct, buy_held: Buy
    ) -> None:
        product = make_product(units=10, strategy=strategy, hold_minutes=15)

        receipt = buy_held(product, quantity=3)

        order = Order.objects.get()
        assert order.expires_at is not None
        left = order.expires_at - database_now()
        assert timedelta(minutes=14, seconds=30) < left <= timedelta(minutes=15)
        assert (receipt.order, receipt.status, order.status) == (order.pk, "held", "held")
        assert available(product) == 7
        assert findings(product) == []

    def test_sells_at_once_what_is_not_held(
        self, strategy: str, make_product: MakeProduct, buy_held: Buy
    ) -> None:
        product = make_product(strategy=strategy)

        receipt = buy_held(product)

        order = Order.objects.get()
        assert (receipt.status, order.status, order.expires_at) == ("confirmed", "confirmed", None)

    def test_finds_an_order_by_its_key_in_whatever_state_and_sells_nothing_again(
        self, strategy: str, make_product: MakeProduct, buy_held: Buy
    ) -> None:
        product = make_product(units=10, strategy=strategy, hold_minutes=10)
        key = uuid.uuid4()
        first = buy_held(product, key=key)
        holds.cancel(reference=first.order, buyer=BUYER)

        again = buy_held(product, key=key)

        assert (again.order, again.status, again.replayed) == (first.order, "cancelled", True)
        assert Order.objects.count() == 1
        assert available(product) == 10

    @pytest.mark.parametrize("called_off", ["cancelled", "expired"])
    def test_a_limit_counts_what_is_held_and_lets_go_of_what_was_given_back(
        self, strategy: str, make_product: MakeProduct, buy_held: Buy, called_off: str
    ) -> None:
        product = make_product(units=10, strategy=strategy, hold_minutes=10, limit_per_buyer=2)
        first = buy_held(product)
        buy_held(product)
        with pytest.raises(LimitReached):
            buy_held(product)

        if called_off == "cancelled":
            holds.cancel(reference=first.order, buyer=BUYER)
        else:
            end_of_hold(Order.objects.get(pk=first.order))
            assert holds.release_expired() == 1

        buy_held(product)
        with pytest.raises(LimitReached):
            buy_held(product)
        assert available(product) == 8
        assert findings(product) == []

    def test_the_clock_of_the_web_process_does_not_matter(
        self, strategy: str, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        product = make_product(strategy=strategy, hold_minutes=10)

        long_ago = datetime(2001, 1, 1, tzinfo=UTC)
        monkeypatch.setattr("django.utils.timezone.now", lambda: long_ago)
        order = held(product)

        assert order.expires_at is not None
        assert order.expires_at > database_now()


def test_one_buyer_gets_no_more_than_the_limit_in_50_tries_at_once_and_again_after_cancelling(
    strategy: str, make_product: MakeProduct
) -> None:
    product = make_product(units=50, strategy=strategy, limit_per_buyer=2, hold_minutes=10)

    def buy(number: int) -> None:
        purchase(slug=product.slug, quantity=1, buyer=BUYER, key=uuid.uuid4())

    with Crowd(50) as crowd:
        outcomes = crowd.race(buy)
        drain_if_accepted(product)
        assert outcomes["sold"] == 2
        assert set(outcomes) <= {"sold", "LimitReached", "StockBusy"}

        for order in Order.objects.all():
            holds.cancel(reference=order.pk, buyer=BUYER)
        again = crowd.race(buy)
        drain_if_accepted(product)

    assert again["sold"] == 2
    kept = Order.objects.filter(status=Order.Status.HELD)
    assert kept.count() == 2
    assert available(product) == 48
    assert findings(product) == []


def drain_if_accepted(product: Product) -> None:
    if product.strategy == "redis_counter":
        drain(product)


def test_a_group_may_hold_for_one_buyer_and_sell_to_the_next(lamp: Product) -> None:
    """As when the operator has just changed the product."""
    wishes = [
        PurchaseRequest(
            product_id=lamp.pk,
            quantity=1,
            buyer=f"guest:{number}",
            key=uuid.uuid4(),
            unit_price=lamp.price,
            strategy="group_commit",
            hold_minutes=minutes,
        )
        for number, minutes in enumerate([None, 10, None])
    ]

    receipts = GroupCommit().sell_all(wishes)

    assert [r.status for r in receipts if isinstance(r, Receipt)] == [
        "confirmed",
        "held",
        "confirmed",
    ]
    assert Order.objects.filter(expires_at=None).count() == 2
    assert findings(lamp) == []


def test_new_terms_are_kept_by_the_next_sale(make_product: MakeProduct) -> None:
    product = make_product()
    purchase(slug=product.slug, quantity=1, buyer=BUYER, key=uuid.uuid4())

    Product.objects.update(hold_minutes=5)
    terms.forget()

    assert held(product).status == Order.Status.HELD


class TestPay:
    def test_pays_an_order_that_is_held(self, lamp: Product) -> None:
        order = held(lamp, quantity=2)

        payment = pay(order)

        assert status_of(order) == Order.Status.PAID
        assert payment.status == Payment.Status.CONFIRMED
        assert (payment.order_id, payment.amount) == (order.pk, Decimal("25.00"))
        assert (available(lamp), findings(lamp)) == (8, [])

    def test_the_same_confirmation_again_has_the_same_answer(self, lamp: Product) -> None:
        order = held(lamp)
        first = pay(order)

        assert pay(order) == first
        assert Payment.objects.get().status == Payment.Status.CONFIRMED

    def test_a_late_confirmation_again_has_the_same_answer(self, lamp: Product) -> None:
        order = held(lamp)
        holds.cancel(reference=order.pk, buyer=BUYER)

        assert pay(order) == pay(order)
        assert Payment.objects.get().status == Payment.Status.REFUND_DUE

    def test_a_hold_that_is_over_counts_as_expired_before_it_is_released(
        self, lamp: Product
    ) -> None:
        order = held(lamp)
        end_of_hold(order)

        payment = pay(order)

        assert payment.status == Payment.Status.REFUND_DUE
        assert Order.objects.with_state().get().state == Order.Status.EXPIRED
        assert holds.release_expired() == 1
        assert (status_of(order), available(lamp)) == (Order.Status.EXPIRED, 10)

    @pytest.mark.parametrize("called_off", ["cancelled", "expired"])
    def test_what_was_called_off_is_not_paid(self, lamp: Product, called_off: str) -> None:
        order = held(lamp)
        Order.objects.update(status=called_off)

        assert pay(order).status == Payment.Status.REFUND_DUE
        assert status_of(order) == called_off

    def test_a_second_payment_is_to_be_refunded(self, lamp: Product) -> None:
        order = held(lamp)
        pay(order)

        assert pay(order, "payment-2").status == Payment.Status.REFUND_DUE
        assert status_of(order) == Order.Status.PAID

    def test_another_amount_is_to_be_refunded_and_the_order_stays_held(self, lamp: Product) -> None:
        order = held(lamp)

        assert pay(order, amount=Decimal("0.01")).status == Payment.Status.REFUND_DUE
        assert status_of(order) == Order.Status.HELD

    def test_what_was_sold_at_once_needs_no_payment(self, make_product: MakeProduct) -> None:
        order = held(make_product())

        assert pay(order).status == Payment.Status.REFUND_DUE
        assert status_of(order) == Order.Status.CONFIRMED

    def test_a_confirmation_is_for_one_order(self, lamp: Product) -> None:
        first, second = held(lamp), held(lamp)
        pay(first)

        with pytest.raises(PaymentReused):
            pay(second)
        assert status_of(second) == Order.Status.HELD

    def test_an_unknown_order_is_not_found(self) -> None:
        with pytest.raises(OrderNotFound):
            holds.pay(
                reference=uuid.uuid4(), provider="test", provider_reference="1", amount=Decimal(1)
            )

    @pytest.mark.parametrize("late", [False, True])
    def test_a_confirmation_that_arrives_20_times_at_once_counts_once(
        self, lamp: Product, late: bool
    ) -> None:
        order = held(lamp)
        if late:
            holds.cancel(reference=order.pk, buyer=BUYER)
        answers: list[str] = []

        with Crowd(20) as crowd:
            outcomes = crowd.race(lambda n: answers.append(pay(order).status))

        assert outcomes == {"sold": 20}
        assert len(set(answers)) == 1
        assert Payment.objects.get().status == ("refund_due" if late else "confirmed")
        assert status_of(order) == ("cancelled" if late else "paid")

    def test_of_20_payments_at_once_one_is_kept(self, lamp: Product) -> None:
        order = held(lamp)

        with Crowd(20) as crowd:
            crowd.race(lambda n: pay(order, f"payment-{n}"))

        told = Counter(Payment.objects.values_list("status", flat=True))
        assert told == {"confirmed": 1, "refund_due": 19}


class TestCancel:
    def test_gives_the_units_back_with_one_movement(self, lamp: Product) -> None:
        order = held(lamp, quantity=3)

        holds.cancel(reference=order.pk, buyer=BUYER)

        assert status_of(order) == Order.Status.CANCELLED
        assert returns_of(order) == [("cancellation", 3, BUYER)]
        assert Stock.objects.values_list("available", "version").get() == (10, 3)
        assert findings(lamp) == []

    def test_cancelling_twice_gives_back_once(self, lamp: Product) -> None:
        order = held(lamp)

        holds.cancel(reference=order.pk, buyer=BUYER)
        holds.cancel(reference=order.pk, buyer=BUYER)

        assert (available(lamp), len(returns_of(order))) == (10, 1)

    def test_nobody_cancels_anothers_order(self, lamp: Product) -> None:
        order = held(lamp)

        with pytest.raises(OrderNotFound):
            holds.cancel(reference=order.pk, buyer="guest:eve")
        assert (status_of(order), available(lamp)) == ("held", 9)

    def test_an_order_that_changes_hands_meanwhile_stays(
        self, lamp: Product, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As when a guest signs in and takes the orders along."""
        order = held(lamp)
        move = holds._move

        def taken_along(*args: Any, **guard: Any) -> bool:
            Order.objects.update(buyer="user:1")
            return move(*args, **guard)

        monkeypatch.setattr(holds, "_move", taken_along)
        with pytest.raises(NotHeld):
            holds.cancel(reference=order.pk, buyer=BUYER)
        assert (status_of(order), available(lamp)) == ("held", 9)

    @pytest.mark.parametrize(
        ("status", "refusal"), [("paid", NotHeld), ("confirmed", NotHeld), ("expired", HoldOver)]
    )
    def test_a_buyer_cancels_only_what_is_held(
        self, lamp: Product, status: str, refusal: type[Exception]
    ) -> None:
        order = held(lamp)
        Order.objects.update(status=status)

        with pytest.raises(refusal):
            holds.cancel(reference=order.pk, buyer=BUYER)
        assert (status_of(order), available(lamp), returns_of(order)) == (status, 9, [])

    @pytest.mark.parametrize("status", ["held", "confirmed", "paid"])
    def test_an_operator_cancels_what_was_kept_and_says_why(
        self, lamp: Product, status: str
    ) -> None:
        order = held(lamp, quantity=2)
        if status == "paid":
            pay(order)
        Order.objects.update(status=status)

        holds.cancel_for_buyer(reference=order.pk, reason="broken in the post", actor="user:7")

        assert status_of(order) == Order.Status.CANCELLED
        assert returns_of(order) == [("cancellation", 2, "user:7")]
        assert Movement.objects.latest("version").reason == "broken in the post"
        assert set(Payment.objects.values_list("status", flat=True)) <= {"refund_due"}
        assert findings(lamp) == []

    def test_an_operator_cancels_once(self, lamp: Product) -> None:
        order = held(lamp)
        holds.cancel_for_buyer(reference=order.pk, reason="asked to", actor="user:7")

        with pytest.raises(HoldOver):
            holds.cancel_for_buyer(reference=order.pk, reason="asked to", actor="user:7")
        assert (available(lamp), len(returns_of(order))) == (10, 1)

    def test_an_operators_reason_must_fit(self, lamp: Product) -> None:
        order = held(lamp)

        with pytest.raises(AdjustmentRefused):
            holds.cancel_for_buyer(reference=order.pk, reason="x" * 201, actor="user:7")
        assert status_of(order) == "held"

    def test_gives_nothing_back_when_the_movement_cannot_be_written(
        self, lamp: Product, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order = held(lamp)

        def fail(*args: object, **kwargs: object) -> None:
            raise RuntimeError("power cut")

        monkeypatch.setattr(adjustments, "_record_adjustment", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            holds.cancel(reference=order.pk, buyer=BUYER)
        assert (status_of(order), available(lamp)) == ("held", 9)

    def test_refuses_to_be_a_part_of_another_transaction(self, lamp: Product) -> None:
        order = held(lamp)

        with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
            holds.cancel(reference=order.pk, buyer=BUYER)

    def test_is_tried_again_when_the_database_rolled_it_back(
        self, lamp: Product, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order = held(lamp)
        give_back, tries = adjustments.give_back, []

        def deadlock_twice(*args: Any, **kwargs: Any) -> None:
            tries.append(1)
            if len(tries) < 3:
                raise rolled_back()
            give_back(*args, **kwargs)

        monkeypatch.setattr(adjustments, "give_back", deadlock_twice)
        holds.cancel(reference=order.pk, buyer=BUYER)

        assert (status_of(order), available(lamp), len(tries)) == ("cancelled", 10, 3)


def rolled_back() -> Exception:
    """The error of a deadlock, as Django passes it on."""
    error = OperationalError(1213, "deadlock")
    if connection.vendor == "sqlite":
        cause: Any = Exception()
        cause.sqlite_errorcode = 517
        error.__cause__ = cause
    return error


class TestRelease:
    def test_leaves_what_may_still_be_paid(self, lamp: Product) -> None:
        order = held(lamp)

        assert holds.release_expired() == 0
        assert (status_of(order), available(lamp)) == ("held", 9)

    def test_gives_back_what_was_not_paid_in_time(self, lamp: Product) -> None:
        over, other = held(lamp, quantity=2), held(lamp)
        end_of_hold(over)

        assert holds.release_expired() == 1

        assert (status_of(over), status_of(other)) == ("expired", "held")
        assert returns_of(over) == [("expiry", 2, "release_expired_holds")]
        assert (available(lamp), findings(lamp)) == (9, [])

    @pytest.mark.parametrize("status", ["confirmed", "paid", "cancelled", "expired"])
    def test_leaves_what_is_no_longer_held(self, lamp: Product, status: str) -> None:
        order = held(lamp)
        end_of_hold(order)
        Order.objects.update(status=status)

        assert holds.release_expired() == 0
        assert (status_of(order), available(lamp)) == (status, 9)

    def test_takes_the_oldest_first_and_no_more_than_asked(self, lamp: Product) -> None:
        orders = [held(lamp, buyer=f"guest:{n}") for n in range(5)]
        for minutes, order in enumerate(orders, start=1):
            end_of_hold(order, -minutes)

        assert holds.release_expired(limit=2) == 2
        assert [status_of(order) for order in orders] == ["held"] * 3 + ["expired"] * 2

    @pytest.mark.parametrize("meanwhile", ["extended", "paid"])
    def test_looks_again_when_it_writes(
        self, lamp: Product, meanwhile: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order = held(lamp)
        end_of_hold(order)
        move = holds._move

        def too_late(*args: Any, **guard: Any) -> bool:
            if meanwhile == "paid":
                Order.objects.update(status="paid")
            else:
                end_of_hold(order, 5)
            return move(*args, **guard)

        monkeypatch.setattr(holds, "_move", too_late)

        assert holds.release_expired() == 0
        assert available(lamp) == 9

    def test_four_at_once_give_back_each_order_once(self, make_product: MakeProduct) -> None:
        product = make_product(units=30, hold_minutes=10)
        for number in range(30):
            end_of_hold(held(product, buyer=f"guest:{number}"))
        released: list[int] = []

        with Crowd(4) as crowd:
            outcomes = crowd.race(lambda n: released.append(holds.release_expired()))

        assert outcomes == {"sold": 4}
        assert sum(released) == 30
        assert (available(product), findings(product)) == (30, [])


class TestRaces:
    @pytest.mark.mariadb
    def test_1000_buyers_end_with_100_orders_and_what_expires_is_sold_again(
        self, strategy: str, make_product: MakeProduct
    ) -> None:
        product = make_product(units=100, strategy=strategy, hold_minutes=10, limit_per_buyer=1)

        with Crowd(50) as crowd:
            for turn in range(20):
                crowd.race(lambda n, turn=turn: buy_of(product, turn * 50 + n))  # type: ignore[misc]  # bound early
            drain_if_accepted(product)
            kept = list(Order.objects.filter(status=Order.Status.HELD))
            assert (len(kept), available(product), findings(product)) == (100, 0, [])

            crowd.race(lambda n: pay(kept[n], f"payment-{n}"))
            for order in kept[50:]:
                end_of_hold(order)
            assert holds.release_expired() == 50
            for turn in range(20, 40):
                crowd.race(lambda n, turn=turn: buy_of(product, turn * 50 + n))  # type: ignore[misc]  # bound early
            drain_if_accepted(product)

        ends = Counter(Order.objects.values_list("status", flat=True))
        assert ends == {"paid": 50, "expired": 50, "held": 50}
        assert (available(product), findings(product)) == (0, [])

    def test_one_of_pay_cancel_and_expire_wins_in_25_rounds(
        self, make_product: MakeProduct
    ) -> None:
        product = make_product(units=25, hold_minutes=10)
        ends = Counter[str]()

        with Crowd(6) as crowd:
            for number in range(25):
                order = held(product, buyer=f"guest:{number}")
                end_of_hold(order, -1 if number % 2 else 10)
                actions = [
                    lambda o=order: pay(o, str(o.pk)),
                    lambda o=order: holds.cancel(reference=o.pk, buyer=o.buyer),
                    lambda: holds.release_expired(),
                ]
                crowd.race(lambda n, actions=actions: actions[n % 3]())  # type: ignore[misc]  # bound early

                paid = Payment.objects.get(order=order).status == Payment.Status.CONFIRMED
                assert paid == (status_of(order) == Order.Status.PAID)
                assert len(returns_of(order)) == (0 if paid else 1)
                ends[status_of(order)] += 1

        assert available(product) == 25 - ends["paid"]
        assert set(ends) <= {"paid", "cancelled", "expired"}
        assert findings(product) == []

    def test_sales_by_all_strategies_payments_cancellations_and_expiries_at_once(
        self, make_product: MakeProduct
    ) -> None:
        """Everything that writes one stock row, from 8 threads, and nothing is lost."""
        product = make_product(units=40, hold_minutes=10, limit_per_buyer=3)
        names = [
            name
            for name in SAFE
            if name != "redis_counter" and STRATEGIES[name].unavailable_reason() is None
        ]

        def shopper(number: int) -> None:
            for turn in range(6):
                name = names[(number + turn) % len(names)]
                order = sell(product, name, buyer=f"guest:{number}")
                if order is None:
                    continue
                if turn % 3 == 0:
                    holds.pay(
                        reference=order,
                        provider="test",
                        provider_reference=str(order),
                        amount=product.price,
                    )
                elif turn % 3 == 1:
                    holds.cancel(reference=order, buyer=f"guest:{number}")
                else:
                    Order.objects.filter(pk=order).update(expires_at=MinutesFromNow(-1))
                    holds.release_expired()

        with Crowd(8) as crowd:
            outcomes = crowd.race(shopper)
        holds.release_expired()

        assert outcomes == {"sold": 8}
        paid = Order.objects.filter(status=Order.Status.PAID).count()
        assert paid == Payment.objects.filter(status=Payment.Status.CONFIRMED).count() > 0
        assert not Order.objects.filter(status=Order.Status.HELD).exists()
        assert (available(product), findings(product)) == (40 - paid, [])


def buy_of(product: Product, number: int) -> Receipt:
    return purchase(slug=product.slug, quantity=1, buyer=f"guest:{number}", key=uuid.uuid4())


def sell(product: Product, strategy: str, *, buyer: str) -> uuid.UUID | None:
    """Sell one unit past the turnstile; None where too many wanted to at once."""
    request = PurchaseRequest(
        product_id=product.pk,
        quantity=1,
        buyer=buyer,
        key=uuid.uuid4(),
        unit_price=product.price,
        strategy=strategy,
        limit=product.limit_per_buyer,
        hold_minutes=product.hold_minutes,
    )
    try:
        return STRATEGIES[strategy].sell(request).order
    except (LimitReached, StockBusy):
        return None


@pytest.mark.redis
class TestCounter:
    @pytest.fixture
    def counted(self, make_product: MakeProduct) -> Product:
        return make_product(units=10, hold_minutes=10, limit_per_buyer=2, strategy="redis_counter")

    def test_follows_what_is_given_back(self, counted: Product) -> None:
        order = held(counted, quantity=2)

        holds.cancel(reference=order.pk, buyer=BUYER)

        assert counter.count(counted.pk).left == "10"
        assert bought(counted) == 0

    def test_keeps_what_its_own_sales_count_when_another_strategys_order_is_cancelled(
        self, counted: Product
    ) -> None:
        Product.objects.update(strategy="conditional_update")
        terms.forget()
        other = held(counted)
        Product.objects.update(strategy="redis_counter")
        terms.forget()
        held(counted)

        holds.cancel(reference=other.pk, buyer=BUYER)

        assert (counter.count(counted.pk).left, bought(counted)) == ("9", 1)

    def test_a_counter_made_after_the_return_has_counted_it(self, counted: Product) -> None:
        order = held(counted, quantity=2)
        holds.cancel(reference=order.pk, buyer=BUYER)
        stock = Stock.objects.get()
        seen = counter.count(counted.pk)
        assert counter.heal(counted.pk, seen=seen, available=stock.available, version=stock.version)
        held(counted)

        counter.shift(counted.pk, 2, version=stock.version, bought_by=BUYER)

        assert (counter.count(counted.pk).left, bought(counted)) == ("9", 1)

    def test_never_counts_below_nothing(self, counted: Product) -> None:
        held(counted)

        counter.shift(counted.pk, 5, version=10**6, bought_by=BUYER)

        assert bought(counted) == 0

    def test_an_entry_delivered_again_after_its_order_was_cancelled_changes_nothing(
        self, counted: Product, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The consumer died between the commit and the settlement."""
        receipt = purchase(slug=counted.slug, quantity=2, buyer=BUYER, key=uuid.uuid4())
        counter.open_queue(counted.pk)

        def die(product_id: int, settlements: list[Settlement]) -> None:
            raise RuntimeError("power cut")

        with monkeypatch.context() as broken:
            broken.setattr(counter, "settle", die)
            with pytest.raises(RuntimeError, match="power cut"):
                Consumer("dies").commit_new(counted)
        holds.cancel(reference=receipt.order, buyer=BUYER)

        assert Consumer("lives").take_over(counted, idle_ms=0) == 1

        seen = counter.count(counted.pk)
        assert (seen.left, seen.pending, bought(counted)) == ("10", "0", 0)
        assert (Order.objects.get().status, available(counted)) == ("cancelled", 10)
        assert findings(counted) == []


def bought(product: Product) -> int:
    found = counter._redis().hget(counter.keys_of(product.pk)[1], BUYER)
    return int(found or 0)


class TestCommand:
    def test_releases_all_there_is_in_batches_and_says_how_many(
        self, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        product = make_product(units=10, hold_minutes=10)
        for number in range(5):
            end_of_hold(held(product, buyer=f"guest:{number}"))
        monkeypatch.setattr(holds.release_expired, "__kwdefaults__", {"limit": 2})
        out = StringIO()

        call_command("release_expired_holds", stdout=out)

        assert out.getvalue() == "Released the units of 5 orders.\n"
        assert available(product) == 10

    @pytest.mark.parametrize("seconds", ["0", "-1", "nan", "1e9"])
    def test_watches_at_sensible_intervals_only(self, seconds: str) -> None:
        with pytest.raises(CommandError, match="--watch"):
            call_command("release_expired_holds", "--watch", seconds)

    def test_two_processes_release_each_order_once_and_stop_when_told(
        self, make_product: MakeProduct
    ) -> None:
        product = make_product(units=40, hold_minutes=10)
        for number in range(40):
            end_of_hold(held(product, buyer=f"guest:{number}"), -60)
        connection.close()
        command = [sys.executable, "manage.py", "release_expired_holds", "--watch", "0.05"]
        watchers = [
            subprocess.Popen(command, cwd=settings.BASE_DIR, env=child_environment())
            for _ in range(2)
        ]
        try:
            wait_until_released(product, 40)
            later = held(product)
            end_of_hold(later)
            wait_until_released(product, 40)
            for watcher in watchers:
                watcher.send_signal(signal.SIGTERM)
            assert [watcher.wait(WAIT_S) for watcher in watchers] == [0, 0]
        finally:
            for watcher in watchers:
                watcher.kill()
        assert status_of(later) == Order.Status.EXPIRED
        assert findings(product) == []


def wait_until_released(product: Product, units: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while available(product) != units:
        assert time.monotonic() < deadline, "nobody released them"
        time.sleep(0.05)
