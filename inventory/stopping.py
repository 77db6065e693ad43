"""Being asked to end, and ending between two pieces of work."""

from __future__ import annotations

import signal
import time

NOTICED_WITHIN_S = 0.1


class Stop:
    """
    Whether SIGTERM or SIGINT asked this program to end.

    Not a threading.Event: a handler runs between any two instructions of the main thread,
    also where that holds the event's lock, and would then wait for itself.
    """

    def __init__(self) -> None:
        self.asked = False

    @classmethod
    def on_signals(cls) -> Stop:
        """Take note of both from now on."""
        stop = cls()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop.ask)
        return stop

    def ask(self, *_: object) -> None:
        """Ask it to end: this is the signals' handler."""
        self.asked = True

    def wait(self, seconds: float) -> None:
        """Pause for so long, or until NOTICED_WITHIN_S after it was asked to end."""
        until = time.monotonic() + seconds
        while not self.asked and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, NOTICED_WITHIN_S))
