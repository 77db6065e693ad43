from __future__ import annotations

import logging
import os
import time
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

import django.db
from django.core.management.base import BaseCommand, CommandError

from inventory.stopping import Stop
from shop.confirmations import RECENT, confirm, overdue, unconfirmed

logger = logging.getLogger(__name__)

JUST_NOW = timedelta(minutes=2)
"""How far a watcher looks back in most rounds: longer than a sale takes from order to commit."""
LOOK_BACK_EVERY_S = 60.0
"""How often it looks at all recent orders: for those of guests who signed in, and paid holds."""
NICENESS = 19
"""Buyers waiting for an answer come first."""


class Command(BaseCommand):
    help = (
        "Confirm new orders of users by mail. Any number of these may run at once:"
        " each order is confirmed by one."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--watch", type=float, metavar="SECONDS", help="Look again after each pause, for ever."
        )

    def handle(self, *args: Any, watch: float | None, **options: Any) -> None:
        """Send; until SIGTERM or SIGINT with --watch. The mail at hand is finished first."""
        if watch is not None and watch <= 0:
            raise CommandError("--watch takes a number of seconds above 0.")
        stop = Stop.on_signals()
        if watch is None:
            self.stdout.write(f"{_send_all(RECENT, stop)} mails sent.")
            return
        os.nice(NICENESS)
        _watch(watch, stop)


def _watch(pause_s: float, stop: Stop) -> None:
    look_back_at = time.monotonic()
    while not stop.asked:
        within = JUST_NOW
        if time.monotonic() >= look_back_at:
            within, look_back_at = RECENT, time.monotonic() + LOOK_BACK_EVERY_S
        django.db.close_old_connections()
        try:
            _send_all(within, stop)
        except django.db.Error as error:
            logger.warning("The orders cannot be read: %s", error)
            look_back_at = time.monotonic()
        stop.wait(pause_s)


def _send_all(within: timedelta, stop: Stop) -> int:
    """Confirm, batch by batch, until nothing is left to do; how many mails were sent."""
    sent = 0
    while not stop.asked:
        orders = [*overdue(), *unconfirmed(within=within)]
        if not orders:
            break
        for order in orders:
            if stop.asked:
                break
            sent += confirm(order)
    return sent
