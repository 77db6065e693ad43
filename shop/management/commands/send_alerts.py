from __future__ import annotations

import logging
import os
from argparse import ArgumentParser
from typing import Any

import django.db
from django.core.management.base import BaseCommand, CommandError

from inventory.stopping import Stop
from shop.alert_senders import look_and_tell

logger = logging.getLogger(__name__)

NICENESS = 19
"""Buyers waiting for an answer come first."""


class Command(BaseCommand):
    help = (
        "Look at how the sales stand, and tell the operators what began and what ended, by"
        " mail and by webhook. Any number of these may run at once: each tells of what the"
        " others did not."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--watch", type=float, metavar="SECONDS", help="Look again after each pause, for ever."
        )

    def handle(self, *args: Any, watch: float | None, **options: Any) -> None:
        """Look once; until SIGTERM or SIGINT with --watch. The round at hand is finished first."""
        if watch is None:
            self.stdout.write(f"{look_and_tell()} notices sent.")
            return
        if watch <= 0:
            raise CommandError("--watch takes a number of seconds above 0.")
        stop = Stop.on_signals()
        os.nice(NICENESS)
        while not stop.asked:
            django.db.close_old_connections()
            try:
                look_and_tell()
            except django.db.Error as error:
                logger.warning("The sales cannot be looked at: %s", error)
            stop.wait(watch)
