"""
Comparing the books of a product: stock row, ledger and orders.

Each is kept by its own statement, so a lost update in one shows in the others.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, QuerySet

from inventory.models import Movement, Order, Stock

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """All that was written about one product since `opening`, as of one moment."""

    opening: Snapshot
    stock: Snapshot
    movements: list[MovementLine]
    orders: list[OrderLine]

    def units_sold(self) -> int:
        """Units promised to buyers, by the orders."""
        return sum(order.quantity for order in self.orders)

    def units_put_in(self) -> int:
        """Units there were to sell: the opening stock and every restock or correction."""
        sale = Movement.Kind.SALE
        return self.opening.available + sum(m.delta for m in self.movements if m.kind != sale)

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
            orders=[
                OrderLine(**line)
                for orders in _orders(product_id, since)
                for line in orders.values(
                    "reference", "buyer", "key", "quantity", "strategy", "attempts"
                )
            ],
        )


def _orders(product_id: int, since: Snapshot) -> list[QuerySet[Order]]:
    """The orders sold since, and those never sold; each found without reading all the rest."""
    ours = Order.objects.filter(product_id=product_id)
    sold = ours.filter(
        movements__product_id=product_id, movements__version__gt=since.version
    ).distinct()
    never = ours.filter(~Exists(Movement.objects.filter(order_id=OuterRef("pk"))))
    if since.taken_at is not None:
        never = never.filter(created_at__gte=since.taken_at - CLOCKS_DIFFER)
    return [sold, never]


def audit(books: Books) -> list[Finding]:
    """List every disagreement between the books; an empty list is a clean audit."""
    return [*_stock_row(books), *_ledger_chain(books), *_orders_and_sales(books)]


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
    sales = [m for m in books.movements if m.kind == Movement.Kind.SALE]
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


@contextmanager
def _consistent_snapshot() -> Iterator[None]:
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    with transaction.atomic():
        yield
