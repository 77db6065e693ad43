"""Many buyers at the same moment: threads behind a barrier, and processes of such threads."""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from django.core.cache import caches
from django.db import connection, connections

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


def race_in_processes(
    processes: int, threads: int, action: Callable[[int], object], *, times: int = 1
) -> Counter[Outcome]:
    """Run `action(number)` in every thread of every process at once, `times` times over."""
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(processes)
    results: multiprocessing.Queue[Counter[Outcome]] = context.Queue()

    def child(first: int) -> None:
        caches["process"].clear()
        total: Counter[Outcome] = Counter()
        with Crowd(threads) as crowd:
            gate.wait(WAIT_S)
            for _ in range(times):
                total += crowd.race(lambda n: action(first + n))
        results.put(total)

    connections.close_all()
    children = [
        context.Process(target=child, args=(number * threads,)) for number in range(processes)
    ]
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
