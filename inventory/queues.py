"""How the Redis counters and their queues stand, for whoever watches over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django_redis import get_redis_connection

from inventory import counter
from inventory.counter import Count
from inventory.models import Stock

MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A product's counter, and the accepted purchases that no consumer has settled yet."""

    count: Count
    length: int
    oldest_s: float
    """The age of the oldest of them, by Redis's clock."""

    def disagrees_with(self, available: int) -> bool:
        """Whether there is a counter, nothing is on its way, and it does not say `available`."""
        idle = self.length == 0 and self.count != Count()
        return idle and not self.count.agrees_with(available)


def read_queues(product_ids: Sequence[int]) -> dict[int, Queue]:
    """Read how they stand; one round trip, nothing is scanned. Raises RedisError."""
    pipeline = get_redis_connection("locks").pipeline(transaction=False)
    pipeline.time()
    for product_id in product_ids:
        hash_key, _, stream = counter.keys_of(product_id)
        pipeline.hmget(hash_key, "left", "pending", "epoch")
        pipeline.xlen(stream)
        pipeline.xrange(stream, count=1)
    (seconds, micros), *answers = pipeline.execute(raise_on_error=False)
    now_s = seconds + micros / MILLION
    return {
        product_id: _queue(now_s, *answers[3 * at : 3 * at + 3])
        for at, product_id in enumerate(product_ids)
    }


def drifted(queues: Mapping[int, Queue], available: Mapping[int, int]) -> dict[int, str]:
    """
    Name the counters that differ from the stock row while nothing is on its way.

    Each with what it says. `available` was read before `queues`; what differs is read
    once more, and counts only if the counter did not move meanwhile. Raises RedisError.
    """
    suspects = [pk for pk, queue in queues.items() if queue.disagrees_with(available[pk])]
    if not suspects:
        return {}
    rows = Stock.objects.filter(pk__in=suspects)
    available_now = dict(rows.values_list("pk", "available"))
    after = read_queues(suspects)
    return {
        pk: after[pk].count.left
        for pk in suspects
        if after[pk].count == queues[pk].count and after[pk].disagrees_with(available_now[pk])
    }


def _queue(now_s: float, fields: Any, length: Any, oldest: Any) -> Queue:
    """Read three answers, of which each may be an error: what is no queue holds nothing."""
    count = Count()
    if isinstance(fields, list):
        left, pending, epoch = (_text(field) for field in fields)
        count = Count(left=left, pending=pending, epoch=epoch)
    if not isinstance(length, int) or not isinstance(oldest, list) or not oldest:
        return Queue(count=count, length=0, oldest_s=0.0)
    since_ms = int(oldest[0][0].partition(b"-")[0])
    return Queue(count=count, length=length, oldest_s=max(0.0, now_s - since_ms / 1000))


def _text(field: bytes | None) -> str:
    return field.decode(errors=counter.ANY_BYTES) if field else ""
