"""Whose orders are whose, where that changes; all else about orders is inventory/ledger.py's."""

from __future__ import annotations

import uuid

from django.db import connection

from inventory.models import Order

# Arguments: taker, giver. Leaves out the orders whose key the taker has used as well.
HAND_OVER = {
    "mysql": "UPDATE IGNORE inventory_order SET buyer = %s WHERE buyer = %s",
    "sqlite": "UPDATE OR IGNORE inventory_order SET buyer = %s WHERE buyer = %s",
}


def hand_over(*, giver: str, taker: str) -> int:
    """
    Make every order of one buyer another's; how many there were.

    They count for the taker's limits from then on. Their movements keep their actor: the
    ledger says who bought. Raises django.db.Error; doing it again is harmless.
    """
    with connection.cursor() as cursor:
        cursor.execute(HAND_OVER[connection.vendor], [taker, giver])
        moved: int = cursor.rowcount
    return moved + _hand_over_under_new_keys(giver, taker)


def _hand_over_under_new_keys(giver: str, taker: str) -> int:
    """A key that both used already finds the taker's own order: the other gets a key of its own."""
    keys = Order.objects.filter(buyer=taker).values("key")
    both = Order.objects.filter(buyer=giver, key__in=keys).values_list("reference", flat=True)
    return sum(
        Order.objects.filter(reference=reference, buyer=giver).update(buyer=taker, key=uuid.uuid4())
        for reference in both
    )
