from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from django.core.management.base import CommandError


@contextmanager
def interruptible() -> Iterator[None]:
    """
    Let Ctrl-C and SIGTERM end the block in order: children stopped, the run marked aborted.

    Raises CommandError for either.
    """

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        raise CommandError(
            "Interrupted: nothing is left running, the run is marked aborted."
        ) from None
    finally:
        signal.signal(signal.SIGTERM, before)
