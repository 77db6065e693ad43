"""The books of a product, read as of one moment: stock row, ledger and orders."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, QuerySet

from inventory.models import Movement, Order, Stock

RETURNS = {
    Movement.Kind.CANCELLATION: Order.Status.CANCELLED,
    Movement.Kind.EXPIRY: Order.Status.EXPIRED,
}
"""What each kind of return leaves an order as."""
SALE = Movement.Kind.SALE
CLOCKS_DIFFER = timedelta(minutes=1)
"""By how much the clocks of web processes may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A stock row at one moment; the default is the row as it was created."""

    available: int = 0
    version: int = 0
    taken_at: datetime | None = None
    """Orders without a sale are looked for from then on; from the beginning without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MovementLine:
    version: int
    kind: str
    delta: int
    available_after: int
    order: uuid.UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLine:
    reference: uuid.UUID
    buyer: str
    key: uuid.UUID
    quantity: int
    strategy: str
    attempts: int
    status: str = Order.Status.CONFIRMED

    def was_kept(self) -> bool:
        """Whether its units are still the buyer's."""
        return self.status not in RETURNS.values()


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """All that was written about one product since `opening`, as of one moment."""

    opening: Snapshot
    stock: Snapshot
    movements: list[MovementLine]
    orders: list[OrderLine]
    earlier_orders: list[OrderLine] = field(default_factory=list)
    """Sold before `opening`, and their units given back since."""

    def sales(self) -> list[MovementLine]:
        """The movements that sold."""
        return [m for m in self.movements if m.kind == SALE]

    def returns(self) -> list[MovementLine]:
        """The movements that put an order's units back on sale."""
        return [m for m in self.movements if m.kind in RETURNS]

    def units_sold(self) -> int:
        """Units promised to buyers and not given back, by the orders."""
        return sum(order.quantity for order in self.orders if order.was_kept())

    def units_put_in(self) -> int:
        """Units there were to sell: the opening stock, and all put in but by orders sold since."""
        ours = {order.reference for order in self.orders}
        put_in = [m for m in self.movements if m.kind != SALE and m.order not in ours]
        return self.opening.available + sum(m.delta for m in put_in)

    def oversold(self) -> int:
        """Units promised that never existed."""
        return max(0, self.units_sold() - self.units_put_in())


def read_books(product_id: int, *, since: Snapshot = Snapshot()) -> Books:
    """Read the three books in one consistent snapshot, from `since` on."""
    with _consistent_snapshot():
        row = Stock.objects.filter(product_id=product_id).values_list("available", "version")
        available, version = row.first() or (0, 0)
        movements = Movement.objects.filter(product_id=product_id, version__gt=since.version)
        return Books(
            opening=since,
            stock=Snapshot(available=available, version=version),
            movements=[
                MovementLine(version=v, kind=kind, delta=delta, available_after=after, order=order)
                for v, kind, delta, after, order in movements.order_by("version").values_list(
                    "version", "kind", "delta", "available_after", "order_id"
                )
            ],
            orders=[*_lines(_moved(product_id, since, [SALE])), *_lines(_never(product_id, since))],
            earlier_orders=_lines(_returned_only(product_id, since)),
        )


def _moved(product_id: int, since: Snapshot, kinds: Iterable[str]) -> QuerySet[Order]:
    """The orders with a movement of these kinds since; found without reading all the rest."""
    return Order.objects.filter(
        product_id=product_id,
        movements__product_id=product_id,
        movements__version__gt=since.version,
        movements__kind__in=kinds,
    ).distinct()


def _returned_only(product_id: int, since: Snapshot) -> QuerySet[Order]:
    """The orders sold before, and given back since."""
    sold_before = Movement.objects.filter(
        order_id=OuterRef("pk"), kind=SALE, version__lte=since.version
    )
    return _moved(product_id, since, RETURNS).filter(Exists(sold_before))


def _never(product_id: int, since: Snapshot) -> QuerySet[Order]:
    """The orders never sold."""
    sold = Movement.objects.filter(order_id=OuterRef("pk"), kind=SALE)
    never = Order.objects.filter(~Exists(sold), product_id=product_id)
    if since.taken_at is not None:
        never = never.filter(created_at__gte=since.taken_at - CLOCKS_DIFFER)
    return never


def _lines(orders: QuerySet[Order]) -> list[OrderLine]:
    columns = ("reference", "buyer", "key", "quantity", "strategy", "attempts", "status")
    return [OrderLine(**line) for line in orders.values(*columns)]


@contextmanager
def _consistent_snapshot() -> Iterator[None]:
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    with transaction.atomic():
        yield
