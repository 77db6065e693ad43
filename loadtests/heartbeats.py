"""The sign of life of who plays a comparison: how far it is, and whether to go on."""

from __future__ import annotations

import logging
import os
import threading

import django.db
from django.db import connection

from inventory.clock import DatabaseNow
from loadtests.comparisons import Announce, Bar
from loadtests.interrupts import CALL_OFF
from loadtests.models import Comparison, Worker

logger = logging.getLogger(__name__)

BEAT_S = 1.0


class Heart(threading.Thread):
    """
    Writes a comparison's progress every BEAT_S, on a connection of its own.

    Sends this process CALL_OFF, once, when the comparison is to be cancelled or was
    written off: let the main thread be `interruptible()`.
    """

    def __init__(self, comparison: Comparison, *, worker: str = "") -> None:
        super().__init__(name="heart", daemon=True)
        self.pk = comparison.pk
        self.worker = worker
        self.step = "server"
        self.done = 0
        self.called_off = False
        self._ended = threading.Event()

    def announce(self, bar: Bar | None, step: str) -> Step:
        """Say which step begins; what it tells is shown by `bar` as well."""
        self.step = step
        return Step(self, bar)

    def beside(self, announce: Announce) -> Announce:
        """Show steps as `announce` does, and tell of them."""
        return lambda title, step: self.announce(announce(title, step), step)

    def alone(self, title: str, step: str) -> Step:
        """Tell of steps, and show them nowhere else."""
        return self.announce(None, step)

    def run(self) -> None:
        """Beat until stopped; an outage is waited for."""
        try:
            while not self._ended.wait(BEAT_S):
                try:
                    self._beat()
                except django.db.Error as error:
                    logger.warning("The progress of comparison %s is not kept: %s", self.pk, error)
                    connection.close()
        finally:
            connection.close()

    def stop(self) -> None:
        """Beat no more."""
        self._ended.set()
        self.join()

    def _beat(self) -> None:
        mine = Comparison.objects.filter(pk=self.pk, status=Comparison.Status.RUNNING)
        going_on = mine.update(beat_at=DatabaseNow(), step=self.step, done=self.done)
        if self.worker:
            Worker.beat(self.worker)
        if not going_on or mine.filter(cancel_asked=True).exists():
            self._call_off()

    def _call_off(self) -> None:
        if not self.called_off:
            self.called_off = True
            os.kill(os.getpid(), CALL_OFF)


class Step:
    """One step of a comparison's progress: the buyers it has served join those of before."""

    def __init__(self, heart: Heart, bar: Bar | None) -> None:
        self.heart = heart
        self.bar = bar
        self.before = heart.done
        self.of = 0

    def __call__(self, done: int, of: int) -> None:
        """Show `done` of `of` buyers."""
        self.of = of
        self.heart.done = self.before + min(done, of)
        if self.bar:
            self.bar(done, of)

    def clear(self) -> None:
        """The step is over."""
        self.heart.done = self.before + self.of
        if self.bar:
            self.bar.clear()
