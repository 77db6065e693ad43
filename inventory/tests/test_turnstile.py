from __future__ import annotations

import threading
import time
from collections.abc import Callable

from inventory.turnstile import Turnstile


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
