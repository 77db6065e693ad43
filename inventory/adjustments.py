"""
Restocks, corrections, resets and returns: every write of a stock row that is no sale.

Each is guarded like a sale, and has one movement in the same transaction. The
counter in Redis follows after the commit.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from inventory import counter
from inventory.errors import AdjustmentRefused, ProductNotFound, StockMoved
from inventory.models import Movement, Order, Product, Stock

MAX_UNITS = 1_000_000_000
"""More units than any sale has; an adjustment beyond it is a typing error."""

MAX_REASON_LENGTH = 200


def open_stock(*, product_id: int) -> None:
    """Give a new product its stock row, with no units; harmless when it has one."""
    Stock.objects.get_or_create(product_id=product_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The stock row's version that was before the eyes of whoever decided on a change."""

    version: int
    sales_may_follow: bool = False
    """Change it all the same when it moved since, unless it moved by this very change."""


def adjust(
    *,
    product_id: int,
    delta: int,
    kind: Movement.Kind,
    reason: str,
    actor: str,
    seen: Seen | None = None,
) -> Movement:
    """
    Add `delta` units (take them when negative), with one movement, which it returns.

    Raises AdjustmentRefused when too few units are available, StockMoved when the stock was
    written since it was `seen`; nothing changes then.
    """
    check_reason(reason)
    if delta == 0:
        raise AdjustmentRefused(_("A change of 0 units changes nothing."))
    if abs(delta) > MAX_UNITS:
        raise AdjustmentRefused(_("A change must be within ±%(most)d units.") % {"most": MAX_UNITS})
    open_stock(product_id=product_id)
    with transaction.atomic():
        row = Stock.objects.filter(
            product_id=product_id, available__gte=-delta, available__lte=MAX_UNITS - delta
        )
        if seen is not None and not seen.sales_may_follow:
            row = row.filter(version=seen.version)
        if not row.update(available=F("available") + delta, version=F("version") + 1):
            raise _why_not(product_id, delta, seen)
        if seen is not None:
            _refuse_a_repetition(
                seen, product_id, delta=delta, kind=kind, reason=reason, actor=actor
            )
        movement = _record_adjustment(product_id, delta, kind, reason, actor)
        transaction.on_commit(partial(counter.shift, product_id, delta, version=movement.version))
    return movement


def _why_not(product_id: int, delta: int, seen: Seen | None) -> AdjustmentRefused:
    version = Stock.objects.values_list("version", flat=True).get(product_id=product_id)
    if seen is not None and not seen.sales_may_follow and version != seen.version:
        return StockMoved(seen_version=seen.version, version=version)
    return AdjustmentRefused(
        _("A change of %(delta)s would leave fewer than 0 or more than %(most)d units.")
        % {"delta": f"{delta:+d}", "most": MAX_UNITS}
    )


def _refuse_a_repetition(seen: Seen, product_id: int, **change: object) -> None:
    """Refuse what a second press of the same button sends; the stock row is locked here."""
    since = Movement.objects.filter(product_id=product_id, version__gt=seen.version)
    if since.filter(**change).exists():
        raise AdjustmentRefused(
            _("This very change was made already since you looked. It was not made twice.")
        )


def give_back(order: Order, *, kind: Movement.Kind, reason: str, actor: str) -> None:
    """
    Put an order's units back on sale, in the transaction that moved its status away.

    That guarded write of the status is what makes it happen once.
    """
    row = Stock.objects.filter(product_id=order.product_id)
    row.update(available=F("available") + order.quantity, version=F("version") + 1)
    movement = _record_adjustment(
        order.product_id, order.quantity, kind, reason, actor, order_id=order.pk
    )
    follow = partial(
        counter.shift,
        order.product_id,
        order.quantity,
        version=movement.version,
        bought_by=order.buyer if order.strategy == "redis_counter" else "",
    )
    transaction.on_commit(follow)


def reset(
    *, slugs: list[str], units: int, reason: str, actor: str, seen: Seen | None = None
) -> list[Movement]:
    """
    Set the available units of products to `units`, with one movement each, all or none.

    Raises AdjustmentRefused for an absurd number, a reason too long, or while a load
    run holds one of the products; StockMoved when a stock row was written since it was
    `seen`; ProductNotFound for an unknown slug.
    """
    check_reason(reason)
    if not 0 <= units <= MAX_UNITS:
        raise AdjustmentRefused(
            _("Units must be between 0 and %(most)d, not %(units)d.")
            % {"most": MAX_UNITS, "units": units}
        )
    ids = dict(Product.objects.filter(slug__in=slugs).values_list("slug", "pk"))
    for slug in slugs:
        if slug not in ids:
            raise ProductNotFound(slug=slug)
    with transaction.atomic():
        return [_reset_one(pk, units, reason, actor, seen) for pk in sorted(ids.values())]


def _reset_one(product_id: int, units: int, reason: str, actor: str, seen: Seen | None) -> Movement:
    """Reset under the stock row's lock, which `hold_for_run` takes as well."""
    open_stock(product_id=product_id)
    stock = Stock.objects.select_for_update().get(product_id=product_id)
    if seen is not None and stock.version != seen.version:
        raise StockMoved(seen_version=seen.version, version=stock.version)
    product = Product.objects.get(pk=product_id)
    if product.is_held_by_a_run(timezone.now()):
        raise AdjustmentRefused(
            _("A load run holds “%(slug)s” until %(time)s UTC.")
            % {"slug": product.slug, "time": f"{product.run_until:%H:%M:%S}"}
        )
    changed = Stock.objects.filter(product_id=product_id, version=stock.version).update(
        available=units, version=F("version") + 1
    )
    if not changed:
        raise AdjustmentRefused(
            _("The stock of “%(slug)s” moved; nothing was reset.") % {"slug": product.slug}
        )
    delta = units - stock.available
    movement = _record_adjustment(product_id, delta, Movement.Kind.RESET, reason, actor)
    transaction.on_commit(partial(counter.shift, product_id, delta, version=movement.version))
    return movement


def hold_for_run(*, product_id: int, until: datetime) -> bool:
    """Keep resets of a product away until then; False when another run holds it."""
    with transaction.atomic():
        Stock.objects.select_for_update().get(product_id=product_id)
        free = Product.objects.filter(pk=product_id).exclude(run_until__gt=timezone.now())
        return bool(free.update(run_until=until))


def check_reason(reason: str) -> None:
    if len(reason) > MAX_REASON_LENGTH:
        raise AdjustmentRefused(
            _("A reason has at most %(most)d characters.") % {"most": MAX_REASON_LENGTH}
        )


def _record_adjustment(
    product_id: int,
    delta: int,
    kind: Movement.Kind,
    reason: str,
    actor: str,
    order_id: uuid.UUID | None = None,
) -> Movement:
    """Write the movement of what was just done to the stock row."""
    stock = Stock.objects.get(product_id=product_id)
    return Movement.objects.create(
        product_id=product_id,
        version=stock.version,
        kind=kind,
        delta=delta,
        available_after=stock.available,
        order_id=order_id,
        reason=reason,
        actor=actor,
    )
