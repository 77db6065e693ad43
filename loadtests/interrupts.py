from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from django.core.management.base import CommandError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(CommandError):
    """Somebody stopped this program."""


@contextmanager
def interruptible() -> Iterator[None]:
    """
    Let Ctrl-C, SIGTERM and a closed terminal end the block in order.

    Children are stopped and the run is marked aborted, undisturbed by further
    signals. Raises Interrupted for any of them.
    """

    def interrupt(signum: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {each: signal.signal(each, interrupt) for each in SIGNALS}
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(
            "Interrupted: nothing is left running, the run is marked aborted."
        ) from None
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
