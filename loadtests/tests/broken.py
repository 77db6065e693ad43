"""
Strategies with one mistake each, as seen in real shops. The audit must catch every one.

`meet` is where two buyers wait for each other between reading and writing, so that the race
is certain and no sleep is needed.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import replace

from django.db import transaction
from django.db.models import F

from inventory import ledger
from inventory.errors import SoldOut
from inventory.ledger import PurchaseRequest, Receipt
from inventory.models import Movement, Stock
from inventory.strategies import STRATEGIES

Meet = Callable[[], object]
Sell = Callable[[PurchaseRequest, Meet], Receipt]


def _row(request: PurchaseRequest) -> Stock:
    return Stock.objects.get(product_id=request.product_id)


def _write(request: PurchaseRequest, available: int) -> Receipt:
    """Write an absolute count and record the sale."""
    Stock.objects.filter(product_id=request.product_id).update(
        available=available, version=F("version") + 1
    )
    return ledger.record_sale(
        request, version=_row(request).version, available_after=available, attempts=1
    )


def reads_then_writes_back(request: PurchaseRequest, meet: Meet) -> Receipt:
    """No guard: both rivals compute from the same read."""
    seen = _row(request)
    if seen.available < request.quantity:
        raise SoldOut(available=seen.available)
    meet()
    with transaction.atomic():
        return _write(request, seen.available - request.quantity)


_local_lock = threading.Lock()


def releases_its_lock_before_the_write(request: PurchaseRequest, meet: Meet) -> Receipt:
    """The lock covers the read only, as with an outer transaction or a lost TTL."""
    with _local_lock:
        seen = _row(request)
    meet()
    if seen.available < request.quantity:
        raise SoldOut(available=seen.available)
    with transaction.atomic():
        return _write(request, seen.available - request.quantity)


def saves_the_whole_row(request: PurchaseRequest, meet: Meet) -> Receipt:
    """A sale, and beside it somebody saves the row as it was read before."""
    before = _row(request)
    receipt = STRATEGIES["conditional_update"].sell(request)
    meet()
    before.save()
    return receipt


def forgets_the_movement(request: PurchaseRequest, meet: Meet) -> Receipt:
    """Units go, an order comes, and the ledger hears nothing."""
    meet()
    receipt = STRATEGIES["conditional_update"].sell(request)
    Movement.objects.filter(order=receipt.order).delete()
    return receipt


def sells_from_a_counter_of_its_own(request: PurchaseRequest, meet: Meet) -> Receipt:
    """A gate that is taken for the truth: the stock row is never written."""
    meet()
    with transaction.atomic():
        return ledger.record_sale(
            request,
            version=uuid.uuid4().int % 10**9 + 10,
            available_after=0,
            attempts=1,
        )


def ignores_the_row_count(request: PurchaseRequest, meet: Meet) -> Receipt:
    """The guard says no, and nobody listens."""
    meet()
    with transaction.atomic():
        Stock.objects.select_for_update().get(product_id=request.product_id)
        Stock.objects.filter(product_id=request.product_id, available__gte=request.quantity).update(
            available=F("available") - request.quantity, version=F("version") + 1
        )
        row = _row(request)
        last = Movement.objects.filter(product_id=request.product_id).count()
        return ledger.record_sale(
            request, version=last + 1, available_after=row.available, attempts=1
        )


def retries_with_a_new_key(request: PurchaseRequest, meet: Meet) -> Receipt:
    """Takes a lost answer for a failure and buys again under another key."""
    meet()
    STRATEGIES["conditional_update"].sell(replace(request, key=uuid.uuid4()))
    return STRATEGIES["conditional_update"].sell(request)


def forgets_the_version(request: PurchaseRequest, meet: Meet) -> Receipt:
    """Takes units without counting the write."""
    meet()
    receipt = STRATEGIES["conditional_update"].sell(request)
    Stock.objects.filter(product_id=request.product_id).update(version=F("version") - 1)
    return receipt


def takes_the_units_twice(request: PurchaseRequest, meet: Meet) -> Receipt:
    """Runs the statement again after a deadlock that had rolled back nothing."""
    meet()
    receipt = STRATEGIES["conditional_update"].sell(request)
    Stock.objects.filter(product_id=request.product_id, available__gte=1).update(
        available=F("available") - request.quantity
    )
    return receipt


def says_sold_without_selling(request: PurchaseRequest, meet: Meet) -> Receipt:
    """Answers before the commit, which then fails."""
    meet()
    return Receipt(order=uuid.uuid4(), status="confirmed", quantity=1, stock_version=2, available=0)


def says_sold_out_from_an_old_flag(request: PurchaseRequest, meet: Meet) -> Receipt:
    """A sticky sold-out flag that no restock clears."""
    meet()
    raise SoldOut(available=0)


def refuses_after_selling(request: PurchaseRequest, meet: Meet) -> Receipt:
    """Turns a committed sale into an error, as a failed lock release would."""
    meet()
    STRATEGIES["conditional_update"].sell(request)
    raise SoldOut(available=0)


BROKEN: dict[Sell, str] = {
    reads_then_writes_back: "oversold",
    releases_its_lock_before_the_write: "oversold",
    saves_the_whole_row: "available_differs",
    forgets_the_movement: "writes_differ",
    sells_from_a_counter_of_its_own: "writes_differ",
    ignores_the_row_count: "oversold",
    retries_with_a_new_key: "order_without_client",
    forgets_the_version: "writes_differ",
    takes_the_units_twice: "available_differs",
    says_sold_without_selling: "success_without_order",
    says_sold_out_from_an_old_flag: "false_sold_out",
    refuses_after_selling: "refused_with_order",
}
"""Each mistake, and the finding that must name it."""
