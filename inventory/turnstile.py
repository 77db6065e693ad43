from __future__ import annotations

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
