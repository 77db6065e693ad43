"""
How the sales stand just now: what the desk's first page shows, and alerts go by.

It stays cheap at ten million orders, for it never reads them all. One statement adds up two
ranges of indexes on the orders: those made in the last minute (created_at), and those that
are held (status, expires_at), which are never more than the units in stock. Each product's
last filling is found by (product, kind, version), one row each. Refusals and queues are in
Redis: three round trips. All moments are by the database's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Count, Min, OuterRef, Q, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce, Greatest
from redis.exceptions import RedisError

from inventory import queues, refusal_counts
from inventory.clock import DatabaseNow, MinutesFromNow
from inventory.models import Movement, Order, Product
from inventory.queues import Queue

OVER_FOR_MINUTES = 24 * 60
"""For how long after its end a sale is still shown."""
CALLED_OFF = (Order.Status.CANCELLED, Order.Status.EXPIRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductFigures:
    """One product's sale just now."""

    product: Product
    state: Product.SaleState
    available: int
    filled_to: int
    """
    Units after the last restock or reset, or what is available if that is more: the whole of
    which `available` is the rest. Adding up all that was ever put in would read the ledger.
    """
    sold_per_minute: int
    """Units of orders made in the last 60 s that were not called off."""
    holds: int
    """Orders that wait for a payment."""
    units_held: int
    next_expiry_at: datetime | None
    refusals: dict[str, int] | None
    """In the last 60 s, by reason; None where they cannot be read."""
    queue: Queue | None
    counter_says: str | None
    """What a counter says that is wrong while nothing is on its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All sales as of one moment (None without any), and whether Redis could be asked."""

    taken_at: datetime | None
    products: list[ProductFigures]
    has_redis: bool
    redis_answers: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Orders:
    orders: int = 0
    units: int = 0
    first_expiry_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _FromRedis:
    refusals: dict[int, dict[str, int]]
    queues: dict[int, Queue]
    drifted: dict[int, str]


def read_figures() -> Figures:
    """Read how every product that is on sale stands; the lab's own are left out."""
    products = list(_products())
    orders = _orders()
    redis = _from_redis(products)
    return Figures(
        taken_at=products[0].now if products else None,
        products=[_figures(product, orders, redis) for product in products],
        has_redis="locks" in settings.CACHES,
        redis_answers=redis is not None,
    )


def _figures(
    product: Any, orders: dict[tuple[int, str], _Orders], redis: _FromRedis | None
) -> ProductFigures:
    sold = orders.get((product.pk, "sold"), _Orders())
    held = orders.get((product.pk, "held"), _Orders())
    return ProductFigures(
        product=product,
        state=product.sale_state(product.now),
        available=product.available,
        filled_to=max(product.filled_to, product.available),
        sold_per_minute=sold.units,
        holds=held.orders,
        units_held=held.units,
        next_expiry_at=held.first_expiry_at,
        refusals=redis.refusals[product.pk] if redis else None,
        queue=redis.queues[product.pk] if redis else None,
        counter_says=redis.drifted.get(product.pk) if redis else None,
    )


def _products() -> QuerySet[Any]:
    """The products on sale with their stock, the last filling of each, and the clock."""
    filling = Movement.objects.filter(product=OuterRef("pk"), version=OuterRef("filled_version"))
    return (
        Product.objects.for_sale()
        .filter(Q(closes_at=None) | Q(closes_at__gt=MinutesFromNow(-OVER_FOR_MINUTES)))
        .select_related("stock")
        .annotate(
            now=DatabaseNow(),
            filled_version=Greatest(
                _last_version(Movement.Kind.RESTOCK), _last_version(Movement.Kind.RESET)
            ),
        )
        .annotate(filled_to=Coalesce(Subquery(filling.values("available_after")[:1]), Value(0)))
    )


def _last_version(kind: Movement.Kind) -> Coalesce:
    last = Movement.objects.filter(product=OuterRef("pk"), kind=kind).order_by("-version")
    return Coalesce(Subquery(last.values("version")[:1]), Value(0))


def _orders() -> dict[tuple[int, str], _Orders]:
    """What was sold in the last minute and what is held, by product: one statement."""
    orders = Order.objects.order_by()
    fresh = orders.filter(created_at__gte=MinutesFromNow(-1)).exclude(status__in=CALLED_OFF)
    held = orders.filter(status=Order.Status.HELD)
    lines = _added_up(fresh, "sold").union(_added_up(held, "held"), all=True)
    return {
        (line["product_id"], line["what"]): _Orders(
            orders=line["orders"], units=line["units"], first_expiry_at=line["first_expiry_at"]
        )
        for line in lines
    }


def _added_up(orders: QuerySet[Order], what: str) -> QuerySet[Any, Any]:
    return orders.values("product_id").annotate(
        what=Value(what),
        orders=Count("pk"),
        units=Sum("quantity"),
        first_expiry_at=Min("expires_at"),
    )


def _from_redis(products: Sequence[Product]) -> _FromRedis | None:
    """What Redis knows of them; None without one, or where it does not answer."""
    if "locks" not in settings.CACHES:
        return None
    product_ids = [product.pk for product in products]
    available = {product.pk: product.available for product in products}
    try:
        refusals = refusal_counts.per_minute(product_ids)
        found = queues.read_queues(product_ids)
        return _FromRedis(refusals=refusals, queues=found, drifted=queues.drifted(found, available))
    except RedisError:
        return None
