"""
Comparing the books of a product: stock row, ledger and orders.

Each is kept by its own statement, so a lost update in one shows in the others.
"""

from __future__ import annotations

import uuid
from collections import Counter
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One disagreement between books: a code to filter by, and a sentence."""

    code: str
    text: str


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


def audit(books: Books) -> list[Finding]:
    """List every disagreement between the books; an empty list is a clean audit."""
    return [
        *_stock_row(books),
        *_ledger_chain(books),
        *_orders_and_sales(books),
        *_orders_and_returns(books),
    ]


def _stock_row(books: Books) -> Iterator[Finding]:
    stock, opening = books.stock, books.opening
    if stock.available < 0:
        yield Finding(code="available_negative", text=f"{stock.available} units are available.")
    expected = opening.available + sum(movement.delta for movement in books.movements)
    if stock.available != expected:
        yield Finding(
            code="available_differs",
            text=f"The stock row has {stock.available} available, the ledger {expected}.",
        )
    writes = stock.version - opening.version
    if writes != len(books.movements):
        yield Finding(
            code="writes_differ",
            text=f"The stock row was written {writes} times, for {len(books.movements)} movements.",
        )
    if books.oversold():
        yield Finding(
            code="oversold",
            text=f"{books.units_sold()} units sold of {books.units_put_in()}:"
            f" {books.oversold()} never existed.",
        )


def _ledger_chain(books: Books) -> Iterator[Finding]:
    before = books.opening
    for movement in books.movements:
        if movement.version != before.version + 1:
            yield Finding(
                code="version_gap",
                text=f"Version {before.version} is followed by {movement.version}.",
            )
        elif movement.available_after != before.available + movement.delta:
            yield Finding(
                code="chain_broken",
                text=f"Version {movement.version}: {before.available} {movement.delta:+d}"
                f" is not {movement.available_after}.",
            )
        before = Snapshot(available=movement.available_after, version=movement.version)


def _orders_and_sales(books: Books) -> Iterator[Finding]:
    sales = books.sales()
    sold = {sale.order: -sale.delta for sale in sales}
    ordered = {order.reference: order.quantity for order in books.orders}
    for reference, times in Counter(sale.order for sale in sales).items():
        if times > 1:
            yield Finding(code="order_sold_twice", text=f"Order {reference} has {times} sales.")
    for reference, quantity in ordered.items():
        if reference not in sold:
            yield Finding(code="order_without_sale", text=f"Order {reference} took no units.")
        elif sold[reference] != quantity:
            yield Finding(
                code="quantity_differs",
                text=f"Order {reference} is for {quantity} units but took {sold[reference]}.",
            )
    for sale in sales:
        if sale.order not in ordered:
            yield Finding(
                code="sale_without_order", text=f"The sale at version {sale.version} has no order."
            )
    for (_, key), times in Counter((order.buyer, order.key) for order in books.orders).items():
        if times > 1:
            yield Finding(code="key_sold_twice", text=f"Key {key} has {times} orders.")


def _orders_and_returns(books: Books) -> Iterator[Finding]:
    orders = {order.reference: order for order in [*books.orders, *books.earlier_orders]}
    returns = books.returns()
    for reference, times in Counter(given.order for given in returns).items():
        if times > 1:
            yield Finding(code="returned_twice", text=f"Order {reference} has {times} returns.")
    for given in returns:
        order = orders.get(given.order) if given.order else None
        if order is None:
            yield Finding(
                code="return_without_order",
                text=f"The return at version {given.version} has no order.",
            )
        elif order.status != RETURNS[Movement.Kind(given.kind)]:
            yield Finding(
                code="returned_but_kept",
                text=f"Order {order.reference} is {order.status}, but has a return ({given.kind}).",
            )
        elif order.quantity != given.delta:
            yield Finding(
                code="return_differs",
                text=f"Order {order.reference} is for {order.quantity} units"
                f" but gave {given.delta} back.",
            )
    for missing in {o.reference for o in books.orders if not o.was_kept()} - {
        given.order for given in returns
    }:
        yield Finding(code="not_returned", text=f"Order {missing} kept its units when called off.")


@contextmanager
def _consistent_snapshot() -> Iterator[None]:
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    with transaction.atomic():
        yield
