from __future__ import annotations

import threading
from collections import deque
from typing import Generic, Protocol, TypeVar


class Opens(Protocol):
    """What a member sleeps at until it is woken."""

    def release(self) -> None:
        """Wake who sleeps here."""


class HasGate(Protocol):
    """A member of the crowd."""

    gate: Opens


M = TypeVar("M", bound=HasGate)


class Gathering(Generic[M]):
    """
    Gathers who comes while somebody is at work, per key: a leader, and those who follow.

    The first to come leads; the others queue, first come first served. A leader takes
    them along in groups and hands the lead on to the next in the queue when done.
    """

    def __init__(self, *, largest_group: int, longest_queue: int) -> None:
        self._largest_group = largest_group
        self._longest_queue = longest_queue
        self._mutex = threading.Lock()
        self._queues: dict[int, deque[M]] = {}

    def join(self, key: int, member: M) -> bool:
        """True: lead. False: sleep at your gate. Raises OverflowError when the queue is full."""
        with self._mutex:
            queue = self._queues.get(key)
            if queue is None:
                self._queues[key] = deque()
                return True
            if len(queue) >= self._longest_queue:
                raise OverflowError("the queue is full")
            queue.append(member)
            return False

    def give_up(self, key: int, member: M) -> bool:
        """Leave the queue; False when a leader took the member along, or it was given the lead."""
        with self._mutex:
            queue = self._queues.get(key, ())
            if member not in queue:
                return False
            self._queues[key].remove(member)
            return True

    def take_along(self, key: int) -> list[M]:
        """Take the leader's followers off the queue."""
        with self._mutex:
            queue = self._queues[key]
            return [queue.popleft() for _ in range(min(len(queue), self._largest_group - 1))]

    def hand_on(self, key: int) -> None:
        """Give the lead to the next in the queue, or to whoever comes next."""
        with self._mutex:
            queue = self._queues[key]
            if queue:
                queue.popleft().gate.release()
            else:
                del self._queues[key]
