from __future__ import annotations

import logging
import os
from argparse import ArgumentParser
from typing import Any

import django.db
from django.core.management.base import BaseCommand, CommandError

from inventory.holds import release_expired
from inventory.stopping import Stop

logger = logging.getLogger(__name__)

LONGEST_WATCH_S = 3600
NICENESS = 19
"""Buyers waiting for an answer come first: these units wait a moment longer."""


class Command(BaseCommand):
    help = (
        "Put the units of holds whose time is over back on sale. Any number of these may"
        " run at once, on any number of machines."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--watch", type=float, metavar="SECONDS", help="Look again so often, until stopped."
        )

    def handle(self, *args: Any, watch: float | None, **options: Any) -> None:
        """Release what is over; with `watch`, until SIGTERM or SIGINT."""
        if watch is None:
            released = sum(iter(release_expired, 0))
            self.stdout.write(f"Released the units of {released} orders.")
            return
        if not 0 < watch <= LONGEST_WATCH_S:
            raise CommandError(f"--watch takes seconds, more than 0 and at most {LONGEST_WATCH_S}.")
        stop = Stop.on_signals()
        os.nice(NICENESS)
        while not stop.asked:
            if not _released():
                stop.wait(watch)


def _released() -> int:
    """Release one batch; none in an outage, which is said in the log."""
    django.db.close_old_connections()
    try:
        return release_expired()
    except django.db.Error as error:
        logger.warning("Holds cannot be released: %s", error)
        return 0
