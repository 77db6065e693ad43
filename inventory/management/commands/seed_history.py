from __future__ import annotations

import random
import uuid
from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from inventory import adjustments
from inventory.books import RETURNS
from inventory.models import Movement, Order, Product, Stock

BATCH = 2000
PREFIX = "history-"
RESTOCKED = 1000
"""Units put in at a time."""
LARGEST_SHARE = 0.7
"""Of all orders that are the first product's: a shop has one favourite."""
DAYS = 90
BUYERS_PER_ORDER = 0.3
MOST_UNITS = 3
"""Of one order."""
STATUSES = {
    Order.Status.CONFIRMED: 60,
    Order.Status.PAID: 33,
    Order.Status.EXPIRED: 4,
    Order.Status.CANCELLED: 2.9,
    Order.Status.HELD: 0.1,
}
"""How many of a hundred orders are what."""
RETURNED_BY = {status: kind for kind, status in RETURNS.items()}


class Command(BaseCommand):
    help = (
        "Write the books of a shop that has sold for 90 days, to look at the desk with: products"
        f" named {PREFIX}…, orders of every status, their movements. The books agree."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--orders", type=int, default=1_000_000)
        parser.add_argument("--products", type=int, default=20)

    def handle(self, *args: Any, orders: int, products: int, **options: Any) -> None:
        """Refuse where there is such a history already, for it is written only once."""
        if orders < 1 or products < 2:
            raise CommandError("A history has one order at least, of two products.")
        if Product.objects.filter(slug__startswith=PREFIX).exists():
            raise CommandError(f"There is a history already: products named {PREFIX}….")
        first = round(orders * LARGEST_SHARE)
        shares = [first, *_parts(orders - first, products - 1)]
        for number, share in enumerate(shares):
            _History(_product(number), orders=share).write()
            self.stdout.write(f"{PREFIX}{number}: {share} orders")
            self.stdout.flush()


def _parts(total: int, parts: int) -> list[int]:
    """Divide a number evenly."""
    return [total * (at + 1) // parts - total * at // parts for at in range(parts)]


def _product(number: int) -> Product:
    product = Product.objects.create(
        slug=f"{PREFIX}{number}", name=f"History {number}", price=Decimal(20)
    )
    adjustments.open_stock(product_id=product.pk)
    return product


class _History:
    """One product's books: restocks, sales, and what was cancelled or expired."""

    def __init__(self, product: Product, *, orders: int) -> None:
        self.product = product
        self.orders = orders
        self.random = random.Random(product.slug)
        self.available = 0
        self.version = 0

    def write(self) -> None:
        """Write it in batches, each with the stock row as of its end."""
        lines = self._lines()
        while batch := list(islice(lines, BATCH)):
            with transaction.atomic():
                Order.objects.bulk_create(order for order, _ in batch if order is not None)
                Movement.objects.bulk_create(movement for _, movement in batch)
                Stock.objects.filter(product=self.product).update(
                    available=self.available, version=self.version
                )

    def _lines(self) -> Iterator[tuple[Order | None, Movement]]:
        began = timezone.now() - timedelta(days=DAYS)
        pace = timedelta(days=DAYS) / self.orders
        for number in range(self.orders):
            at = began + number * pace
            if self.available < MOST_UNITS:
                reason = f"delivery {number}"
                yield None, self._moved(Movement.Kind.RESTOCK, RESTOCKED, at, reason=reason)
            order = self._order(at)
            yield order, self._moved(Movement.Kind.SALE, -order.quantity, at, order=order)
            if kind := RETURNED_BY.get(Order.Status(order.status)):
                yield None, self._moved(kind, order.quantity, at + pace / 2, order=order)

    def _order(self, at: datetime) -> Order:
        (status,) = self.random.choices(list(STATUSES), weights=list(STATUSES.values()))
        held = status == Order.Status.HELD
        return Order(
            product=self.product,
            buyer=f"user:{self.random.randrange(1, max(2, round(self.orders * BUYERS_PER_ORDER)))}",
            key=uuid.UUID(int=self.random.getrandbits(128), version=4),
            quantity=self.random.randint(1, MOST_UNITS),
            unit_price=self.product.price,
            status=status,
            strategy=self.product.strategy,
            created_at=at,
            expires_at=timezone.now() + timedelta(days=1) if held else None,
        )

    def _moved(
        self,
        kind: Movement.Kind,
        delta: int,
        at: datetime,
        *,
        order: Order | None = None,
        reason: str = "",
    ) -> Movement:
        self.available += delta
        self.version += 1
        return Movement(
            product=self.product,
            version=self.version,
            kind=kind,
            delta=delta,
            available_after=self.available,
            order=order,
            reason=reason,
            actor=order.buyer if order and kind == Movement.Kind.SALE else "seed_history",
            created_at=at,
        )
