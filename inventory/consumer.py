"""Commits what the Redis counter accepted: batches off its stream, into the database."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence

from inventory import counter
from inventory.counter import Count, Entry, Settlement
from inventory.errors import KeyReused, LimitReached, SoldOut
from inventory.ledger import PurchaseRequest, Receipt
from inventory.models import Order, Product
from inventory.strategies.base import read_stock
from inventory.strategies.group_commit import GroupCommit

logger = logging.getLogger(__name__)

LARGEST_BATCH = 200
TAKE_OVER_MS = 5000
"""A consumer that has not settled its entries by then is taken for dead."""


class Consumer:
    """One of any number of consumers of the products' queues; `name` is its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._seller = GroupCommit()

    def commit_new(self, product: Product) -> int:
        """
        Commit one batch of a product's queue; how many entries there were.

        Raises RedisError; what was taken and not settled is taken over later.
        """
        entries = counter.take_entries(product.pk, consumer=self.name, most=LARGEST_BATCH)
        self._commit(product, entries)
        return len(entries)

    def take_over(self, product: Product, *, idle_ms: int = TAKE_OVER_MS) -> int:
        """
        Commit what was taken `idle_ms` ago and never settled; how many entries there were.

        Raises RedisError.
        """
        entries = counter.take_over(
            product.pk, consumer=self.name, idle_ms=idle_ms, most=LARGEST_BATCH
        )
        sold = _already_sold(entries)
        settled = [Settlement(entry=entry) for entry in entries if entry.reference in sold]
        counter.settle(product.pk, settled)
        self._commit(product, [entry for entry in entries if entry.reference not in sold])
        return len(entries)

    def _commit(self, product: Product, entries: Sequence[Entry]) -> None:
        """Sell to all, each with an answer of its own, then settle what was answered."""
        if not entries:
            return
        answers = self._seller.sell_all([_request(product, entry) for entry in entries])
        settlements = []
        for entry, answer in zip(entries, answers, strict=True):
            settlement = _settlement(entry, answer)
            if settlement is None:
                logger.warning("Entry %s stays in the queue: %s", entry.id, answer)
            else:
                settlements.append(settlement)
        counter.settle(product.pk, settlements)


def products_with_queues() -> list[Product]:
    """The products sold by the counter, and those with purchases left from when they were."""
    return [
        product
        for product in Product.objects.all()
        if product.strategy == "redis_counter" or counter.on_their_way(product.pk)
    ]


def heal(product: Product) -> None:
    """Set a counter right that disagrees with the database, unless purchases are on their way."""
    seen = counter.count(product.pk)
    stock = read_stock(product.pk)
    if seen == Count() or seen.agrees_with(stock.available):
        return
    if counter.heal(product.pk, seen=seen, available=stock.available, version=stock.version):
        logger.warning("The counter of “%s” said %s, not %d", product, seen.left, stock.available)


def _already_sold(entries: Sequence[Entry]) -> set[uuid.UUID]:
    """Those whose consumer died between the commit and the settlement."""
    orders = Order.objects.filter(reference__in=[entry.reference for entry in entries])
    return set(orders.values_list("reference", flat=True))


def _request(product: Product, entry: Entry) -> PurchaseRequest:
    return PurchaseRequest(
        product_id=product.pk,
        quantity=entry.quantity,
        buyer=entry.buyer,
        key=entry.key,
        unit_price=entry.unit_price,
        strategy="redis_counter",
        limit=product.limit_per_buyer,
        hold_minutes=product.hold_minutes,
        reference=entry.reference,
    )


def _settlement(entry: Entry, answer: Receipt | Exception) -> Settlement | None:
    """What an answer means for the entry; None when it must be tried again."""
    match answer:
        case Receipt(order=order) if order == entry.reference:
            return Settlement(entry=entry)
        case Receipt(order=order):  # the key had made its order before, in another way
            return Settlement(entry=entry, state=f"order:{order}", units_return=True)
        case SoldOut():  # the counter was too high: these units never existed
            return Settlement(entry=entry, state="sold_out")
        case LimitReached():
            return Settlement(entry=entry, state="limit_reached", units_return=True)
        case KeyReused():
            return Settlement(entry=entry, state="key_reused", units_return=True)
    return None
