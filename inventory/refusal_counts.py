"""
How many buyers were refused, and why: counted in each process, added up in Redis.

A purchase that is refused puts a note on its process's list, which takes microseconds; a
thread of that process adds what gathered in a second to Redis, in one round trip. Without
Redis the notes are dropped: nothing but the desk's first page goes by them.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from types import TracebackType

from django.conf import settings
from django_redis import get_redis_connection
from redis.exceptions import RedisError

from inventory.errors import LimitReached, NotOpen, OutcomeUnknown, SoldOut, StockBusy

logger = logging.getLogger(__name__)

REASONS: dict[type[BaseException], str] = {
    SoldOut: "sold_out",
    LimitReached: "limit_reached",
    NotOpen: "not_open",
    StockBusy: "busy",
    OutcomeUnknown: "outcome_unknown",
}
GATHER_S = 1.0
KEPT_S = 180
WINDOW_S = 60
MINUTE_S = 60


class counted:  # noqa: N801  # used as “with counted(product):”
    """Count the block's refusal, if it ends in one. The refusal goes on its way."""

    __slots__ = ("_product_id",)

    def __init__(self, product_id: int) -> None:
        self._product_id = product_id

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Note the reason, where it is one."""
        if kind in REASONS and "locks" in settings.CACHES:
            _tally.note(self._product_id, REASONS[kind])


class Tally:
    """One process's notes, and the thread that adds them to Redis once a second."""

    def __init__(self) -> None:
        self._notes: SimpleQueue[tuple[int, str]] = SimpleQueue()
        self._starting = threading.Lock()
        self._writer: threading.Thread | None = None
        self._is_lost = False

    def note(self, product_id: int, reason: str) -> None:
        """Put one refusal on the list; the first of a process starts the thread."""
        self._notes.put((product_id, reason))
        if self._writer is None:
            self._start()

    def add_up(self) -> None:
        """Add all notes to Redis; without it they are lost, which is logged when it begins."""
        found: Counter[tuple[int, str]] = Counter()
        try:
            while True:
                found[self._notes.get_nowait()] += 1
        except Empty:
            pass
        try:
            _add(found)
            self._is_lost = False
        except RedisError as error:
            if not self._is_lost:
                logger.warning("Refusals are not counted, for Redis does not answer: %s", error)
            self._is_lost = True

    def _start(self) -> None:
        with self._starting:
            if self._writer is None:
                self._writer = threading.Thread(
                    target=self._work, name="refusal-counts", daemon=True
                )
                self._writer.start()

    def _work(self) -> None:
        while True:
            first = self._notes.get()
            time.sleep(GATHER_S)
            self._notes.put(first)
            self.add_up()


def per_minute(product_ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """
    Say how many refusals of each reason there were in the last minute, by Redis's clock.

    Two round trips. Raises RedisError.
    """
    redis = get_redis_connection("locks")
    now_s = int(redis.time()[0])
    since_s = now_s - WINDOW_S
    minutes = [now_s // MINUTE_S - 1, now_s // MINUTE_S]
    pipeline = redis.pipeline(transaction=False)
    for product_id in product_ids:
        for minute in minutes:
            pipeline.hgetall(_key(product_id, minute))
    answers = iter(pipeline.execute())
    counts: dict[int, dict[str, int]] = {}
    for product_id in product_ids:
        found: Counter[str] = Counter()
        for minute in minutes:
            for field, times in next(answers).items():
                reason, _, second = field.decode().partition(":")
                if minute * MINUTE_S + int(second) > since_s:
                    found[reason] += int(times)
        counts[product_id] = dict(found)
    return counts


def _add(found: Counter[tuple[int, str]]) -> None:
    """Each product has a hash for each minute, and in it a field for each reason and second."""
    if not found:
        return
    redis = get_redis_connection("locks")
    minute, second = divmod(int(redis.time()[0]), MINUTE_S)
    pipeline = redis.pipeline(transaction=False)
    for (product_id, reason), times in found.items():
        pipeline.hincrby(_key(product_id, minute), f"{reason}:{second}", times)
        pipeline.expire(_key(product_id, minute), KEPT_S)
    pipeline.execute()


def _key(product_id: int, minute: int) -> str:
    return f"refusals:{{{product_id}}}:{minute}"


_tally = Tally()


def _begin_anew() -> None:
    """A forked process has none of its parent's threads, and none of its notes to add again."""
    global _tally
    _tally = Tally()


os.register_at_fork(after_in_child=_begin_anew)
