"""
The books of sales: the only maker of orders and of the movements that sell them.

Whoever takes units from a stock row records it here in the same transaction. What
is not a sale is recorded by inventory/adjustments.py; what becomes of an order
afterwards, by inventory/holds.py.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.db import connection

from inventory.clock import MinutesFromNow
from inventory.engine import Transaction
from inventory.errors import KeyReused, LimitReached
from inventory.models import Movement, Order
from inventory.statements import Statement, insert

ACCEPTED = "accepted"
"""The status of a purchase in a queue: the order it will become is named, and not made."""

# Arguments: product, buyers. One row per buyer with the units of all its orders that kept them.
UNITS_BOUGHT = """
SELECT buyer, SUM(quantity) FROM inventory_order
WHERE product_id = %s AND buyer IN ({buyers}) AND status NOT IN ('cancelled', 'expired')
GROUP BY buyer
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PurchaseRequest:
    """One validated wish to buy: `quantity` units of one product for one buyer."""

    product_id: int
    quantity: int
    buyer: str
    key: uuid.UUID
    unit_price: Decimal
    strategy: str
    limit: int | None = None
    """Units of the product that one buyer may own."""
    hold_minutes: int | None = None
    """For how long the units are held for payment; None where they are sold at once."""
    reference: uuid.UUID | None = None
    """What the order will be called, where the buyer was told before it was made."""
    asked_at: float = field(default_factory=time.monotonic)
    """When the buyer asked (time.monotonic, s): how long it may take counts from then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """
    What the buyer is told of a sale; `replayed` when it was made by an earlier request.

    One that is only ACCEPTED has no version yet: its sale is still to be committed.
    """

    order: uuid.UUID
    status: str
    quantity: int
    stock_version: int | None
    available: int | None
    replayed: bool = False


def record_sale(
    request: PurchaseRequest, *, version: int, available_after: int, attempts: int
) -> Receipt:
    """
    Write the order and its movement, in the transaction that took the units.

    `version` and `available_after` are the stock row's values after that write.
    Raises IntegrityError when the buyer's key already has an order; LimitReached.
    """
    orders = place_orders([request], attempts=attempts)
    (receipt,) = close_sales([request], orders, version=version, available_after=available_after)
    return receipt


def place_orders(requests: Sequence[PurchaseRequest], *, attempts: int) -> list[Order]:
    """
    Write the orders, in the transaction that takes their units or is rolled back.

    Raises IntegrityError when a buyer's key already has an order.
    """
    orders = orders_for(requests, attempts=attempts)
    _insert(orders)
    return orders


async def aplace_orders(
    sale: Transaction, requests: Sequence[PurchaseRequest], *, attempts: int
) -> list[Order]:
    """See place_orders()."""
    orders = orders_for(requests, attempts=attempts)
    await sale.write(*insert(orders))
    return orders


def orders_for(requests: Sequence[PurchaseRequest], *, attempts: int) -> list[Order]:
    """Make the orders that these requests ask for, and write nothing."""
    return [
        Order(
            reference=request.reference or uuid.uuid4(),
            product_id=request.product_id,
            buyer=request.buyer,
            key=request.key,
            quantity=request.quantity,
            unit_price=request.unit_price,
            status=status_of(request),
            strategy=request.strategy,
            attempts=attempts,
            expires_at=MinutesFromNow(request.hold_minutes) if request.hold_minutes else None,
        )
        for request in requests
    ]


def status_of(request: PurchaseRequest) -> Order.Status:
    """Say what an order is when it is made: held, where it is to be paid first."""
    return Order.Status.HELD if request.hold_minutes else Order.Status.CONFIRMED


def close_sales(
    requests: Sequence[PurchaseRequest],
    orders: Sequence[Order],
    *,
    version: int,
    available_after: int,
) -> list[Receipt]:
    """
    Write the movements of the units that the orders took, in their order.

    `version` and `available_after` are the stock row's values after the write that
    took them all. Raises LimitReached when a buyer's orders, the one just placed
    among them, pass the limit: who holds the row sees every earlier sale of the
    product, so two purchases at once cannot both pass.
    """
    statement = units_bought(requests)
    if statement is not None:
        with connection.cursor() as cursor:
            cursor.execute(*statement)
            check_limits(requests, cursor.fetchall())
    movements = movements_for(orders, version=version, available_after=available_after)
    _insert(movements)
    return receipts_for(orders, movements)


async def aclose_sales(
    sale: Transaction,
    requests: Sequence[PurchaseRequest],
    orders: Sequence[Order],
    *,
    version: int,
    available_after: int,
) -> list[Receipt]:
    """See close_sales()."""
    statement = units_bought(requests)
    if statement is not None:
        check_limits(requests, await sale.read(*statement))
    movements = movements_for(orders, version=version, available_after=available_after)
    await sale.write(*insert(movements))
    return receipts_for(orders, movements)


def movements_for(orders: Sequence[Order], *, version: int, available_after: int) -> list[Movement]:
    """
    Make the movements of the units that the orders took, in their order, and write nothing.

    `version` and `available_after` are the stock row's values after the write that took them all.
    """
    movements = []
    version -= len(orders)
    available_after += sum(order.quantity for order in orders)
    for order in orders:
        version += 1
        available_after -= order.quantity
        movements.append(_sale(order, version, available_after))
    return movements


def receipts_for(orders: Sequence[Order], movements: Sequence[Movement]) -> list[Receipt]:
    """Say what was sold, order by order."""
    return [
        Receipt(
            order=order.reference,
            status=order.status,
            quantity=order.quantity,
            stock_version=movement.version,
            available=movement.available_after,
        )
        for order, movement in zip(orders, movements, strict=True)
    ]


def find_receipt(request: PurchaseRequest) -> Receipt | None:
    """
    Find the sale this request's key already made, if any.

    Raises KeyReused when the key's order is for another product or quantity.
    """
    sale = _sale_of(buyer=request.buyer, key=request.key)
    if sale is None:
        return None
    if (sale.product_id, -sale.delta) != (request.product_id, request.quantity):
        raise KeyReused
    return _earlier_receipt(sale)


def receipt_of(*, reference: uuid.UUID, buyer: str) -> Receipt | None:
    """Find the buyer's own order by its reference."""
    sale = _sale_of(buyer=buyer, reference=reference)
    return _earlier_receipt(sale) if sale else None


def _sale_of(*, buyer: str, **order: uuid.UUID) -> Movement | None:
    named = {f"order__{field}": value for field, value in order.items()}
    sales = Movement.objects.filter(kind=Movement.Kind.SALE, order__buyer=buyer, **named)
    return sales.select_related("order").first()


def _earlier_receipt(sale: Movement) -> Receipt:
    assert sale.order is not None
    return Receipt(
        order=sale.order.reference,
        status=sale.order.status,
        quantity=sale.order.quantity,
        stock_version=sale.version,
        available=sale.available_after,
        replayed=True,
    )


def _sale(order: Order, version: int, available_after: int) -> Movement:
    return Movement(
        product_id=order.product_id,
        version=version,
        kind=Movement.Kind.SALE,
        delta=-order.quantity,
        available_after=available_after,
        order_id=order.reference,
        actor=order.buyer,
        created_at=order.created_at,
    )


def units_bought(requests: Sequence[PurchaseRequest]) -> Statement | None:
    """Ask what these buyers bought of the product so far, or None where nobody has a limit."""
    limits = _limits(requests)
    if not limits:
        return None
    places = ", ".join(["%s"] * len(limits))
    return UNITS_BOUGHT.format(buyers=places), [requests[0].product_id, *limits]


def check_limits(requests: Sequence[PurchaseRequest], bought: Iterable[Sequence[Any]]) -> None:
    """Raise LimitReached when one of these buyers has more units than the limit."""
    limits = {buyer.casefold(): limit for buyer, limit in _limits(requests).items()}
    for buyer, units in bought:  # spelled as the database found it, which may tell no case
        if units > limits[buyer.casefold()]:
            raise LimitReached(limit=limits[buyer.casefold()])


def _limits(requests: Sequence[PurchaseRequest]) -> dict[str, int]:
    return {request.buyer: request.limit for request in requests if request.limit is not None}


def _insert(rows: Sequence[Order] | Sequence[Movement]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(*insert(rows))
