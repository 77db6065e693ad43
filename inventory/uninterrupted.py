from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_running: set[asyncio.Task[Any]] = set()


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end, even when whoever waits for it is cancelled."""
    return await asyncio.shield(in_background(work))


def in_background(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start `work`, which goes on to its end whether anybody waits for it or not."""
    task = asyncio.create_task(work)
    _running.add(task)
    task.add_done_callback(_ended)
    return task


async def all_ended() -> None:
    """Wait until nothing of the kind runs in this event loop any more."""
    here = asyncio.get_running_loop()
    while running := [task for task in _running if task.get_loop() is here]:
        await asyncio.wait(running)


def _ended(task: asyncio.Task[Any]) -> None:
    """Forget it; an error nobody waited for any more was the absent buyer's own."""
    _running.discard(task)
    if not task.cancelled():
        task.exception()
