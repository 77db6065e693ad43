from __future__ import annotations

import logging
import os
import socket
import time
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any, TypeVar

import django.db
from django.core.management.base import BaseCommand

from inventory.stopping import Stop
from loadtests import queue
from loadtests.interrupts import Interrupted, interruptible
from loadtests.models import Comparison, Worker

logger = logging.getLogger(__name__)

T = TypeVar("T")
LOOK_AGAIN_S = 1.0
BEAT_S = 5.0


class Command(BaseCommand):
    help = (
        "Play the comparisons asked for at the desk, one at a time, until stopped. Any number"
        " of these may run: they take turns."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--once", action="store_true", help="End when none is waiting.")

    def handle(self, *args: Any, once: bool, **options: Any) -> None:
        """Work until SIGTERM or SIGINT; a comparison that is on is then ended in order."""
        stop = Stop.on_signals()
        name = f"{socket.gethostname()}:{os.getpid()}"
        beat_at = -BEAT_S
        while not stop.asked:
            if time.monotonic() >= beat_at + BEAT_S:
                beat_at = time.monotonic()
                _patiently(lambda: Worker.beat(name))
            comparison = _patiently(queue.claim_next)
            if comparison is not None:
                _play(comparison, name, stop)
            elif once:
                break
            else:
                stop.wait(LOOK_AGAIN_S)
        _patiently(Worker.objects.filter(name=name).delete)


def _play(comparison: Comparison, worker: str, stop: Stop) -> None:
    """Play it; however it ends, it is kept, and only a signal from outside ends the worker."""
    try:
        with interruptible(stop):
            queue.play(comparison, worker=worker, stop=stop)
    except Interrupted:
        logger.info("Comparison %s was interrupted", comparison.pk)
    except queue.CalledOff as error:
        logger.info("Comparison %s: %s", comparison.pk, error)
    except Exception as error:
        logger.warning("Comparison %s failed: %s", comparison.pk, error)


def _patiently(do: Callable[[], T]) -> T | None:
    """Do it; in an outage of the database nothing, which is said in the log."""
    django.db.close_old_connections()
    try:
        return do()
    except django.db.Error as error:
        logger.warning("The queue of load runs cannot be worked on: %s", error)
        return None
