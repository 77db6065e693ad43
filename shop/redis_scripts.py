"""The shop's Lua scripts (shop/lua), run in the Redis that holds locks and counters."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from django.conf import settings
from django_redis import get_redis_connection
from redis.exceptions import RedisError

from inventory import locks

logger = logging.getLogger(__name__)

SCRIPTS = Path(__file__).parent / "lua"
TURN_WAIT_S = 3.0
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


class Crowded(RedisError):
    """Too many of this process wait to ask Redis, which may be well."""


class NotAsked(RedisError):
    """Redis did not answer others just now, so it was not asked."""


def run(script: str, *, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
    """Run a script. Raises RedisError."""
    return _script(script)(keys=keys, args=arguments, client=get_redis_connection("locks"))


async def arun(
    script: str,
    *,
    keys: Sequence[str],
    arguments: Sequence[str | int],
    breaker: CircuitBreaker | None = None,
) -> Any:
    """
    See run(). Waits for its turn, so that a crowd is not taken for a Redis that is silent.

    Raises Crowded when that takes too long; NotAsked where `breaker` has it rest by then.
    """
    async with _turn():
        if breaker is not None and not breaker.may_ask():
            raise NotAsked
        return await locks.aredis().register_script(_source(script))(keys=keys, args=arguments)


@asynccontextmanager
async def _turn() -> AsyncIterator[None]:
    """Let half as many at a time to Redis as it has connections, first come first served."""
    loop = asyncio.get_running_loop()
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = asyncio.Semaphore(max(1, settings.ASYNC_CONNECTIONS // 2))
    try:
        async with asyncio.timeout(TURN_WAIT_S):
            await turns.acquire()
    except TimeoutError as error:
        raise Crowded from error
    try:
        yield
    finally:
        turns.release()


@cache
def _script(name: str) -> Any:
    return get_redis_connection("locks").register_script(_source(name))


@cache
def _source(name: str) -> str:
    return (SCRIPTS / f"{name}.lua").read_text()


class CircuitBreaker:
    """
    Spares callers the wait for a Redis that does not answer.

    After a failure nobody asks for `rest_s` seconds, then one caller tries. What went
    wrong is logged once, when it begins.
    """

    def __init__(self, *, rest_s: float, without_it: str) -> None:
        self._rest_s = rest_s
        self._without_it = without_it
        self._rests_until: float | None = None

    def may_ask(self) -> bool:
        """Whether to ask; after each rest it says so to one caller alone."""
        if self._rests_until is None:
            return True
        now = time.monotonic()
        if now < self._rests_until:
            return False
        self._rests_until = now + self._rest_s
        return True

    def failed(self, error: Exception) -> None:
        """Note that there was no answer."""
        if self._rests_until is None:
            logger.error("Redis does not answer, so %s: %s", self._without_it, error)
        self._rests_until = time.monotonic() + self._rest_s

    def answered(self) -> None:
        """Note that there was one."""
        if self._rests_until is not None:
            self._rests_until = None
            logger.warning("Redis answers again.")
