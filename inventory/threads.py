"""What blocks an event loop runs here: a bounded number of threads, one connection each."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import ParamSpec, TypeVar

from django.conf import settings
from django.db import close_old_connections, connections

CLOSE_WAIT_S = 10.0

P = ParamSpec("P")
T = TypeVar("T")


class NoThreadFree(Exception):
    """Every thread was busy for too long; the work was not begun, and will not be."""


async def in_thread(work: Callable[P, T], wait_s: float, /, *args: P.args, **kwargs: P.kwargs) -> T:
    """
    Run `work` in one of ASYNC_THREADS threads, begun within `wait_s`.

    Once begun it runs to its end, whoever stops waiting for it. Raises NoThreadFree.
    """
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()
    asked = _pool().submit(context.run, _with_a_fresh_connection, work, args, kwargs)
    overdue = loop.call_later(wait_s, asked.cancel)
    try:
        return await asyncio.wrap_future(asked)
    except asyncio.CancelledError:
        me = asyncio.current_task()
        if me is not None and me.cancelling():
            raise
        raise NoThreadFree from None
    finally:
        overdue.cancel()


def _with_a_fresh_connection(
    work: Callable[..., T], args: tuple[object, ...], kwargs: dict[str, object]
) -> T:
    """Drop a connection that is too old or broken, before and after, as Django does per request."""
    close_old_connections()
    try:
        return work(*args, **kwargs)
    finally:
        close_old_connections()


async def close_threads() -> None:
    """End the threads, and their connections with them, when they have nothing left to do."""
    pool = _pool()
    _pool.cache_clear()
    everyone = threading.Barrier(settings.ASYNC_THREADS)
    for _ in range(settings.ASYNC_THREADS):
        pool.submit(_close_connections, everyone)
    await asyncio.to_thread(pool.shutdown)


def _close_connections(everyone: threading.Barrier) -> None:
    everyone.wait(CLOSE_WAIT_S)  # so that each thread does this once
    connections.close_all()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(settings.ASYNC_THREADS, thread_name_prefix="blocking")
