from __future__ import annotations

import asyncio
import threading
import time
from collections import deque


class Turnstile:
    """
    Lets one thread of this process at a time through, per key, first come first served.

    Each waiter sleeps on a lock of its own, so a turn wakes exactly one thread.
    """

    def __init__(self, *, longest_queue: int) -> None:
        self._longest_queue = longest_queue
        self._mutex = threading.Lock()
        self._queues: dict[int, deque[threading.Lock]] = {}

    def enter(self, key: int, *, deadline: float) -> bool:
        """
        Wait for the turn until `deadline` (time.monotonic, s).

        False when it never came, or at once when too many wait already.
        """
        with self._mutex:
            queue = self._queues.get(key)
            if queue is None:
                self._queues[key] = deque()
                return True
            if len(queue) >= self._longest_queue:
                return False
            gate = threading.Lock()
            gate.acquire()
            queue.append(gate)
        if gate.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return True
        with self._mutex:
            if gate in queue:
                queue.remove(gate)
                return False
        return True  # the turn came while giving up: it must be taken, or nobody would

    def hand_on(self, key: int) -> bool:
        """Give the turn to the next in the queue; False (and it is kept) when nobody waits."""
        with self._mutex:
            queue = self._queues[key]
            if not queue:
                return False
            queue.popleft().release()
            return True

    def leave(self, key: int) -> None:
        """Give the turn up, to the next in the queue if there is one."""
        with self._mutex:
            queue = self._queues[key]
            if queue:
                queue.popleft().release()
            else:
                del self._queues[key]


class AsyncTurnstile:
    """
    Lets `abreast` tasks of one event loop at a time through, per key, first come first served.

    See Turnstile.
    """

    def __init__(self, *, longest_queue: int, abreast: int = 1) -> None:
        self._longest_queue = longest_queue
        self._abreast = abreast
        self._inside: dict[int, int] = {}
        self._queues: dict[int, deque[asyncio.Future[None]]] = {}

    async def enter(self, key: int, *, wait_s: float) -> bool:
        """
        Wait for the turn; False when it never came, or at once when too many wait already.

        A waiter who is cancelled leaves the queue, and passes on a turn that came just then.
        """
        queue = self._queues.setdefault(key, deque())
        if self._inside.get(key, 0) < self._abreast:
            self._inside[key] = self._inside.get(key, 0) + 1
            return True
        if len(queue) >= self._longest_queue:
            return False
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            async with asyncio.timeout(wait_s):
                await turn
        except TimeoutError:
            return self._came_after_all(queue, turn)
        except asyncio.CancelledError:
            if self._came_after_all(queue, turn):
                self.leave(key)
            raise
        return True

    def hand_on(self, key: int) -> bool:
        """Give the turn to the next in the queue; False (and it is kept) when nobody waits."""
        queue = self._queues[key]
        while queue:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return True
        return False

    def leave(self, key: int) -> None:
        """Give the turn up, to the next in the queue if there is one."""
        if self.hand_on(key):
            return
        self._inside[key] -= 1
        if not self._inside[key]:
            del self._inside[key], self._queues[key]

    @staticmethod
    def _came_after_all(queue: deque[asyncio.Future[None]], turn: asyncio.Future[None]) -> bool:
        """Whether the turn came while its waiter gave up; out of the queue in any case."""
        if turn in queue:
            queue.remove(turn)
        return not turn.cancelled()
