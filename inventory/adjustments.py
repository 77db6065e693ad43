"""
Restocks, corrections, resets and returns: every write of a stock row that is no sale.

Each is guarded like a sale, and has one movement in the same transaction. The
counter in Redis follows after the commit.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from functools import partial

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from inventory import counter
from inventory.errors import AdjustmentRefused, ProductNotFound
from inventory.models import Movement, Order, Product, Stock

MAX_UNITS = 1_000_000_000
"""More units than any sale has; an adjustment beyond it is a typing error."""

MAX_REASON_LENGTH = 200


def open_stock(*, product_id: int) -> None:
    """Give a new product its stock row, with no units; harmless when it has one."""
    Stock.objects.get_or_create(product_id=product_id)


def adjust(*, product_id: int, delta: int, kind: Movement.Kind, reason: str, actor: str) -> None:
    """
    Add `delta` units (take them when negative), with one movement.

    Raises AdjustmentRefused when too few units are available, and changes nothing.
    """
    check_reason(reason)
    if delta == 0:
        raise AdjustmentRefused("A change of 0 units changes nothing.")
    if abs(delta) > MAX_UNITS:
        raise AdjustmentRefused(f"A change must be within ±{MAX_UNITS} units.")
    open_stock(product_id=product_id)
    with transaction.atomic():
        changed = Stock.objects.filter(
            product_id=product_id, available__gte=-delta, available__lte=MAX_UNITS - delta
        ).update(available=F("available") + delta, version=F("version") + 1)
        if not changed:
            raise AdjustmentRefused(
                f"A change of {delta:+d} would leave fewer than 0 or more than {MAX_UNITS} units."
            )
        version = _record_adjustment(product_id, delta, kind, reason, actor)
        transaction.on_commit(partial(counter.shift, product_id, delta, version=version))


def give_back(order: Order, *, kind: Movement.Kind, reason: str, actor: str) -> None:
    """
    Put an order's units back on sale, in the transaction that moved its status away.

    That guarded write of the status is what makes it happen once.
    """
    row = Stock.objects.filter(product_id=order.product_id)
    row.update(available=F("available") + order.quantity, version=F("version") + 1)
    version = _record_adjustment(
        order.product_id, order.quantity, kind, reason, actor, order_id=order.pk
    )
    bought_by = order.buyer if order.strategy == "redis_counter" else ""
    follow = partial(
        counter.shift, order.product_id, order.quantity, version=version, bought_by=bought_by
    )
    transaction.on_commit(follow)


def reset(*, slugs: list[str], units: int, reason: str, actor: str) -> None:
    """
    Set the available units of products to `units`, with one movement each, all or none.

    Raises AdjustmentRefused for an absurd number, a reason too long, or while a load
    run holds one of the products; ProductNotFound for an unknown slug.
    """
    check_reason(reason)
    if not 0 <= units <= MAX_UNITS:
        raise AdjustmentRefused(f"Units must be between 0 and {MAX_UNITS}, not {units}.")
    ids = dict(Product.objects.filter(slug__in=slugs).values_list("slug", "pk"))
    for slug in slugs:
        if slug not in ids:
            raise ProductNotFound(slug=slug)
    with transaction.atomic():
        for product_id in sorted(ids.values()):
            _reset_one(product_id, units, reason, actor)


def _reset_one(product_id: int, units: int, reason: str, actor: str) -> None:
    """Reset under the stock row's lock, which `hold_for_run` takes as well."""
    open_stock(product_id=product_id)
    stock = Stock.objects.select_for_update().get(product_id=product_id)
    product = Product.objects.get(pk=product_id)
    if product.is_held_by_a_run(timezone.now()):
        raise AdjustmentRefused(
            f"A load run holds “{product.slug}” until {product.run_until:%H:%M:%S} UTC."
        )
    changed = Stock.objects.filter(product_id=product_id, version=stock.version).update(
        available=units, version=F("version") + 1
    )
    if not changed:
        raise AdjustmentRefused(f"The stock of “{product.slug}” moved; nothing was reset.")
    delta = units - stock.available
    version = _record_adjustment(product_id, delta, Movement.Kind.RESET, reason, actor)
    transaction.on_commit(partial(counter.shift, product_id, delta, version=version))


def hold_for_run(*, product_id: int, until: datetime) -> bool:
    """Keep resets of a product away until then; False when another run holds it."""
    with transaction.atomic():
        Stock.objects.select_for_update().get(product_id=product_id)
        free = Product.objects.filter(pk=product_id).exclude(run_until__gt=timezone.now())
        return bool(free.update(run_until=until))


def check_reason(reason: str) -> None:
    if len(reason) > MAX_REASON_LENGTH:
        raise AdjustmentRefused(f"A reason has at most {MAX_REASON_LENGTH} characters.")


def _record_adjustment(
    product_id: int,
    delta: int,
    kind: Movement.Kind,
    reason: str,
    actor: str,
    order_id: uuid.UUID | None = None,
) -> int:
    """Write the movement; the stock row's version that it is of."""
    stock = Stock.objects.get(product_id=product_id)
    Movement.objects.create(
        product_id=product_id,
        version=stock.version,
        kind=kind,
        delta=delta,
        available_after=stock.available,
        order_id=order_id,
        reason=reason,
        actor=actor,
    )
    return stock.version
