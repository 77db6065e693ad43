"""
What becomes of an order that was made: paid, cancelled, or expired.

Each is one guarded write of the order's status, whose row count decides who was
faster. What calls the order off gives its units back in the same transaction, so
that happens exactly once. Orders are locked before the stock row, as sales do.
Whether a hold is over is for the database's clock to say.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

import django.db
from django.db import transaction

from inventory import adjustments
from inventory.clock import DatabaseNow
from inventory.errors import HoldOver, NotHeld, OrderNotFound, PaymentReused
from inventory.models import Movement, Order, Payment
from inventory.verdicts import Verdict, verdict_on

LARGEST_BATCH = 100
MOST_TRIES = 5
TRIED_AGAIN = (Verdict.ROLLED_BACK, Verdict.DUPLICATE)
"""A deadlock, and a twin that was faster: what follows differs in a fresh transaction."""
CALLED_OFF = (Order.Status.CANCELLED, Order.Status.EXPIRED)

T = TypeVar("T")


def pay(
    *, reference: uuid.UUID, provider: str, provider_reference: str, amount: Decimal
) -> Payment:
    """
    Take in a provider's confirmation of a payment; the same one again gets the same answer.

    The order is paid when it is held, its time is not over, and the amount (euro) is its
    total. Otherwise the payment is kept as REFUND_DUE. Raises OrderNotFound, PaymentReused.
    """
    order = _find(reference=reference)

    def take_in() -> Payment:
        known = Payment.objects.filter(provider=provider, provider_reference=provider_reference)
        payment = known.first()
        if payment is not None:
            return payment
        in_time = amount == order.total and _move(
            order, Order.Status.PAID, status=Order.Status.HELD, expires_at__gt=DatabaseNow()
        )
        return Payment.objects.create(
            order=order,
            provider=provider,
            provider_reference=provider_reference,
            amount=amount,
            status=Payment.Status.CONFIRMED if in_time else Payment.Status.REFUND_DUE,
        )

    payment = _in_one_transaction(take_in)
    if payment.order_id != reference:
        raise PaymentReused
    return payment


def cancel(*, reference: uuid.UUID, buyer: str) -> None:
    """
    Call off the buyer's own held order; harmless when it is cancelled already.

    Raises OrderNotFound, HoldOver, NotHeld.
    """
    order = _find(reference=reference, buyer=buyer)

    def call_off() -> bool:
        moved = _move(order, Order.Status.CANCELLED, status=Order.Status.HELD, buyer=buyer)
        if moved:
            adjustments.give_back(
                order,
                kind=Movement.Kind.CANCELLATION,
                reason="cancelled by its buyer",
                actor=buyer,
            )
        return moved

    if _in_one_transaction(call_off):
        return
    status = _find(reference=reference).status
    if status == Order.Status.EXPIRED:
        raise HoldOver(status=status)
    if status != Order.Status.CANCELLED:
        raise NotHeld(status=status)


def cancel_for_buyer(*, reference: uuid.UUID, reason: str, actor: str) -> None:
    """
    Call off an order that is held, confirmed or paid; what was paid for it is to be refunded.

    Raises OrderNotFound, HoldOver when it was called off before, AdjustmentRefused for a
    reason too long.
    """
    adjustments.check_reason(reason)
    order = _find(reference=reference)
    kept = [status for status in Order.Status if status not in CALLED_OFF]

    def call_off() -> None:
        if not _move(order, Order.Status.CANCELLED, status__in=kept):
            raise HoldOver(status=_find(reference=reference).status)
        confirmed = Payment.objects.filter(order=order, status=Payment.Status.CONFIRMED)
        confirmed.update(status=Payment.Status.REFUND_DUE)
        kind = Movement.Kind.CANCELLATION
        adjustments.give_back(order, kind=kind, reason=reason, actor=actor)

    _in_one_transaction(call_off)


def release_expired(*, limit: int = LARGEST_BATCH) -> int:
    """
    Put the units of holds whose time is over back on sale: of `limit` orders at most, the oldest.

    Returns how many this call released. Each has a transaction of its own; any number of
    these may run at once.
    """
    over = Order.objects.filter(status=Order.Status.HELD, expires_at__lte=DatabaseNow())
    return sum(_release(order) for order in list(over.order_by("expires_at")[:limit]))


def _release(order: Order) -> bool:
    def expire() -> bool:
        moved = _move(
            order, Order.Status.EXPIRED, status=Order.Status.HELD, expires_at__lte=DatabaseNow()
        )
        if moved:
            adjustments.give_back(
                order,
                kind=Movement.Kind.EXPIRY,
                reason="not paid in time",
                actor="release_expired_holds",
            )
        return moved

    return _in_one_transaction(expire)


def _move(order: Order, to: Order.Status, **guard: Any) -> bool:
    """Write the status where the guard still holds; the row count is the answer."""
    return bool(Order.objects.filter(pk=order.pk, **guard).update(status=to))


def _find(*, reference: uuid.UUID, **owner: str) -> Order:
    order = Order.objects.filter(reference=reference, **owner).first()
    if order is None:
        raise OrderNotFound(reference=reference)
    return order


def _in_one_transaction(work: Callable[[], T]) -> T:
    """Run `work` in a transaction of its own, a few times where only that was in the way."""
    for _ in range(MOST_TRIES - 1):
        try:
            with transaction.atomic(durable=True):
                return work()
        except django.db.Error as error:
            if verdict_on(error) not in TRIED_AGAIN:
                raise
    with transaction.atomic(durable=True):
        return work()
