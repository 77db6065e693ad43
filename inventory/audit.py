"""
Comparing the books of a product: stock row, ledger and orders.

Each is kept by its own statement, so a lost update in one shows in the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from inventory.books import RETURNS, Books, MovementLine, OrderLine, Snapshot, read_books
from inventory.models import Movement

__all__ = [
    "Books",
    "Finding",
    "MovementLine",
    "OrderLine",
    "Snapshot",
    "audit",
    "read_books",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One disagreement between books: a code to filter by, and a sentence."""

    code: str
    text: str


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
