from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from django.core.management.base import CommandError

from inventory.stopping import Stop

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CALL_OFF = signal.SIGUSR1
"""Ends the block as well, but nobody outside sent it: the program itself may go on."""


class Interrupted(CommandError):
    """Somebody stopped this program."""


@contextmanager
def interruptible(stop: Stop | None = None) -> Iterator[None]:
    """
    Let Ctrl-C, SIGTERM, a closed terminal and CALL_OFF end the block in order.

    Children are stopped and the run is marked aborted, undisturbed by further
    signals; `stop` keeps whether one of them came from outside, however late.
    Raises Interrupted for any of them.
    """
    ending = False

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal ending
        if stop and signum != CALL_OFF:
            stop.ask()
        if not ending:
            ending = True
            raise KeyboardInterrupt

    before = {each: signal.signal(each, interrupt) for each in (*SIGNALS, CALL_OFF)}
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(
            "Interrupted: nothing is left running, the run is marked aborted."
        ) from None
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
