from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from inventory.turnstile import AsyncTurnstile, Turnstile


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def soon() -> float:
    return time.monotonic() + 5


def waiting(turnstile: Turnstile, key: int) -> int:
    return len(turnstile._queues.get(key, ()))


def test_lets_the_first_in_at_once_and_each_key_apart() -> None:
    turnstile = Turnstile(longest_queue=50)
    assert turnstile.enter(1, deadline=time.monotonic())
    assert turnstile.enter(2, deadline=time.monotonic())


def test_serves_in_the_order_of_arrival() -> None:
    turnstile, served = Turnstile(longest_queue=50), []
    turnstile.enter(1, deadline=soon())

    def queue(number: int) -> None:
        assert turnstile.enter(1, deadline=soon())
        served.append(number)
        turnstile.leave(1)

    threads = []
    for number in range(20):
        thread = threading.Thread(target=queue, args=(number,))
        thread.start()
        threads.append(thread)
        eventually(lambda number=number: waiting(turnstile, 1) == number + 1)  # type: ignore[misc]  # bound early
    turnstile.leave(1)
    for thread in threads:
        thread.join(5)

    assert served == list(range(20))
    assert turnstile._queues == {}, "an empty queue keeps no memory"


def test_one_who_gives_up_is_passed_over() -> None:
    turnstile = Turnstile(longest_queue=50)
    turnstile.enter(1, deadline=soon())

    assert not turnstile.enter(1, deadline=time.monotonic() + 0.01)

    assert waiting(turnstile, 1) == 0
    turnstile.leave(1)
    assert turnstile.enter(1, deadline=soon())


def test_hands_on_only_when_somebody_waits() -> None:
    turnstile, inside = Turnstile(longest_queue=50), threading.Event()
    turnstile.enter(1, deadline=soon())
    assert not turnstile.hand_on(1)
    thread = threading.Thread(target=lambda: turnstile.enter(1, deadline=soon()) and inside.set())
    thread.start()
    eventually(lambda: waiting(turnstile, 1) == 1)

    assert turnstile.hand_on(1)

    thread.join(5)
    assert inside.is_set()
    assert not turnstile.enter(1, deadline=time.monotonic()), "it is the other's turn now"


def test_a_turn_that_comes_while_giving_up_is_taken() -> None:
    """Otherwise it would belong to nobody, and everyone behind would wait for ever."""
    turnstile = Turnstile(longest_queue=50)
    turnstile.enter(1, deadline=soon())
    mutex = turnstile._mutex
    entered: list[bool] = []
    thread = threading.Thread(
        target=lambda: entered.append(turnstile.enter(1, deadline=time.monotonic() + 0.02))
    )
    thread.start()
    eventually(lambda: waiting(turnstile, 1) == 1)

    with mutex:  # the waiter's time runs out while the turn is being handed to it
        time.sleep(0.1)
        turnstile._queues[1].popleft().release()

    thread.join(5)
    assert entered == [True]


def test_turns_away_at_once_when_the_queue_is_full() -> None:
    turnstile = Turnstile(longest_queue=1)
    turnstile.enter(1, deadline=soon())
    thread = threading.Thread(target=lambda: turnstile.enter(1, deadline=soon()))
    thread.start()
    eventually(lambda: waiting(turnstile, 1) == 1)
    begun = time.monotonic()

    assert not turnstile.enter(1, deadline=soon())

    assert time.monotonic() - begun < 1
    turnstile.leave(1)
    thread.join(5)


class TestAsync:
    """The same for the tasks of one event loop."""

    def run(self, story: Callable[[AsyncTurnstile], Coroutine[Any, Any, None]]) -> None:
        turnstile = AsyncTurnstile(longest_queue=20)
        asyncio.run(story(turnstile))
        assert turnstile._queues == {}, "an empty queue keeps no memory"
        assert turnstile._inside == {}

    def test_serves_in_the_order_of_arrival_one_at_a_time(self) -> None:
        served: list[int] = []
        inside: list[int] = []

        async def story(turnstile: AsyncTurnstile) -> None:
            async def queue(number: int) -> None:
                assert await turnstile.enter(1, wait_s=5)
                inside.append(number)
                await asyncio.sleep(0)
                assert inside == [number]
                inside.remove(number)
                served.append(number)
                turnstile.leave(1)

            await asyncio.gather(*(queue(number) for number in range(20)))

        self.run(story)
        assert served == list(range(20))

    def test_lets_as_many_abreast_as_it_is_told(self) -> None:
        async def story() -> None:
            turnstile = AsyncTurnstile(longest_queue=20, abreast=2)
            assert await turnstile.enter(1, wait_s=5)
            assert await turnstile.enter(1, wait_s=5)
            assert not await turnstile.enter(1, wait_s=0)

        asyncio.run(story())

    def test_one_who_gives_up_is_passed_over(self) -> None:
        async def story(turnstile: AsyncTurnstile) -> None:
            await turnstile.enter(1, wait_s=5)
            assert not await turnstile.enter(1, wait_s=0.01)
            assert not turnstile.hand_on(1)
            turnstile.leave(1)

        self.run(story)

    def test_a_cancelled_waiter_leaves_the_queue(self) -> None:
        async def story(turnstile: AsyncTurnstile) -> None:
            await turnstile.enter(1, wait_s=5)
            waiter = asyncio.create_task(turnstile.enter(1, wait_s=5))
            await asyncio.sleep(0)
            waiter.cancel()
            await asyncio.wait([waiter])
            assert waiter.cancelled()
            assert not turnstile.hand_on(1), "nobody is left to hand it to"
            turnstile.leave(1)

        self.run(story)

    def test_a_waiter_cancelled_as_its_turn_comes_passes_it_on(self) -> None:
        """Otherwise the turn would belong to nobody, and everyone behind would wait for ever."""

        async def story(turnstile: AsyncTurnstile) -> None:
            await turnstile.enter(1, wait_s=5)
            gone = asyncio.create_task(turnstile.enter(1, wait_s=5))
            behind = asyncio.create_task(turnstile.enter(1, wait_s=5))
            await asyncio.sleep(0)

            turnstile.leave(1)
            gone.cancel()

            assert await asyncio.wait_for(behind, 5)
            assert gone.cancelled()
            turnstile.leave(1)

        self.run(story)

    def test_a_waiter_cancelled_before_its_turn_comes_is_skipped(self) -> None:
        """Cancelled, but not yet out of the queue."""

        async def story(turnstile: AsyncTurnstile) -> None:
            await turnstile.enter(1, wait_s=5)
            gone = asyncio.create_task(turnstile.enter(1, wait_s=5))
            behind = asyncio.create_task(turnstile.enter(1, wait_s=5))
            await asyncio.sleep(0)

            gone.cancel()
            turnstile.leave(1)

            assert await asyncio.wait_for(behind, 5)
            turnstile.leave(1)

        self.run(story)

    def test_turns_away_at_once_when_the_queue_is_full(self) -> None:
        async def story() -> None:
            turnstile = AsyncTurnstile(longest_queue=1)
            await turnstile.enter(1, wait_s=5)
            waiter = asyncio.create_task(turnstile.enter(1, wait_s=5))
            await asyncio.sleep(0)
            assert not await asyncio.wait_for(turnstile.enter(1, wait_s=5), 1)
            turnstile.leave(1)
            assert await waiter

        asyncio.run(story())
