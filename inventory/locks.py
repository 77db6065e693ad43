"""The event loop's own way to the locks in Redis, beside django-redis, which has none."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

from django.conf import settings
from django.core.cache import caches
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.lock import Lock
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

POOL_WAIT_S = 3.0
"""How long to wait for one of the bounded number of connections."""
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Redis] = WeakKeyDictionary()


def alock(name: str, *, timeout: float, sleep: float) -> Lock:
    """
    Make a lock, to be acquired, that excludes the holders of `caches["locks"].lock(name)` too.

    `timeout` is its time to live, `sleep` the pause between two tries, both in seconds.
    """
    return Lock(
        aredis(),
        caches["locks"].make_key(name),
        timeout=timeout,
        sleep=sleep,
        thread_local=False,
    )


async def close() -> None:
    """Close this event loop's connections to Redis; the next lock opens new ones."""
    client = _clients.pop(asyncio.get_running_loop(), None)
    if client is not None:
        await client.aclose()


def aredis() -> Redis:
    """This event loop's client of the Redis that holds locks and counters."""
    loop = asyncio.get_running_loop()
    client = _clients.get(loop)
    if client is None:
        client = _clients[loop] = _open()
    return client


def _open() -> Redis:
    """Connect as django-redis would: same server, same timeouts, no retries."""
    cache: dict[str, Any] = settings.CACHES["locks"]
    options = cache["OPTIONS"]
    pool = BlockingConnectionPool.from_url(
        cache["LOCATION"],
        max_connections=settings.ASYNC_CONNECTIONS,
        timeout=POOL_WAIT_S,
        socket_connect_timeout=options["SOCKET_CONNECT_TIMEOUT"],
        socket_timeout=options["SOCKET_TIMEOUT"],
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)
