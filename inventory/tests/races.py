"""Many buyers at the same moment: threads or tasks let loose together, in one process or more."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.db import connection, connections

from inventory import terms
from inventory.purchases import aclose

T = TypeVar("T")
Outcome = str
WAIT_S = 30


def outcome_of(action: Callable[[], object]) -> Outcome:
    """Name what an action ended in: "sold", or the error's class."""
    try:
        action()
    except Exception as error:
        return type(error).__name__
    return "sold"


class Crowd:
    """Threads with a connection each, which can be let loose again and again."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.pool = ThreadPoolExecutor(max_workers=size)
        self.barrier = threading.Barrier(size)

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *exc: object) -> None:
        self._everyone(connection_closed)
        self.pool.shutdown()

    def race(self, action: Callable[[int], object]) -> Counter[Outcome]:
        """Let everyone run `action(number)` at the same moment; count the outcomes."""
        return Counter(self._everyone(lambda n: outcome_of(lambda: action(n))))

    def _everyone(self, action: Callable[[int], Outcome]) -> list[Outcome]:
        def at_the_barrier(number: int) -> Outcome:
            self.barrier.wait(WAIT_S)
            return action(number)

        return list(self.pool.map(at_the_barrier, range(self.size)))


def connection_closed(number: int) -> Outcome:
    """Close this thread's connection."""
    connection.close()
    return "closed"


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run in an event loop of its own, and leave no connection behind."""

    async def and_close() -> T:
        try:
            return await work
        finally:
            await aclose()

    return asyncio.run(and_close())


async def tasks_race(size: int, action: Callable[[int], Awaitable[object]]) -> Counter[Outcome]:
    """Let `size` tasks run `action(number)` at the same moment; count the outcomes."""
    start = asyncio.Event()

    async def outcome(number: int) -> Outcome:
        await start.wait()
        try:
            await action(number)
        except Exception as error:
            return type(error).__name__
        return "sold"

    everyone = [asyncio.create_task(outcome(number)) for number in range(size)]
    await asyncio.sleep(0)
    start.set()
    return Counter(await asyncio.gather(*everyone))


def tasks_race_in_processes(
    processes: int, size: int, action: Callable[[int], Awaitable[object]], *, times: int = 1
) -> Counter[Outcome]:
    """Run `action(number)` in `size` tasks of every process at once, `times` times over."""

    async def races(process: int) -> Counter[Outcome]:
        total: Counter[Outcome] = Counter()
        for _ in range(times):
            total += await tasks_race(size, lambda n: action(process * size + n))
        return total

    return in_processes(processes, lambda process: run(races(process)))


def race_in_processes(
    processes: int, threads: int, action: Callable[[int], object], *, times: int = 1
) -> Counter[Outcome]:
    """Run `action(number)` in every thread of every process at once, `times` times over."""

    def races(process: int) -> Counter[Outcome]:
        total: Counter[Outcome] = Counter()
        with Crowd(threads) as crowd:
            for _ in range(times):
                total += crowd.race(lambda n: action(process * threads + n))
        return total

    return in_processes(processes, races)


def in_processes(processes: int, races: Callable[[int], Counter[Outcome]]) -> Counter[Outcome]:
    """Run `races(number of the process)` in every process at once; count all outcomes."""
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(processes)
    results: multiprocessing.Queue[Counter[Outcome]] = context.Queue()

    def child(number: int) -> None:
        terms.forget()
        gate.wait(WAIT_S)
        results.put(races(number))

    connections.close_all()
    children = [context.Process(target=child, args=(number,)) for number in range(processes)]
    total: Counter[Outcome] = Counter()
    try:
        for process in children:
            process.start()
        for _ in children:
            total += results.get(timeout=4 * WAIT_S)
        for process in children:
            process.join(WAIT_S)
    finally:
        for process in children:
            process.kill()
    return total
