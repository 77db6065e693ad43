from __future__ import annotations

import logging
import os
import socket
import time
from argparse import ArgumentParser
from typing import Any

import django.db
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from redis.exceptions import RedisError

from inventory import counter
from inventory.consumer import LARGEST_BATCH, Consumer, heal, products_with_queues
from inventory.stopping import Stop

logger = logging.getLogger(__name__)

GATHER_S = 0.05
"""How long to let entries gather when there were too few for a whole batch."""
LOOK_AROUND_S = 1.0
"""How often counters are compared with the database, and dead consumers' entries looked for."""
OUTAGE_PAUSE_S = 0.5
NICENESS = 19
"""Buyers waiting for an answer come first: the queue is no longer than there are units."""


class Command(BaseCommand):
    help = (
        "Commit what the Redis counter accepted, until stopped. Any number of these may"
        " run at once, on any number of machines."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--once", action="store_true", help="End when the queues are empty.")

    def handle(self, *args: Any, once: bool, **options: Any) -> None:
        """Work until SIGTERM or SIGINT; the batch at hand is finished first."""
        if "locks" not in settings.CACHES:
            raise CommandError("REDIS_URL is not set: there is no queue to work on.")
        stop = Stop.on_signals()
        os.nice(NICENESS)
        consumer = Consumer(f"{socket.gethostname()}:{os.getpid()}")
        while not stop.asked:
            try:
                left = _work_a_while(consumer, stop)
            except (RedisError, django.db.Error) as error:
                logger.warning("The queues cannot be worked on: %s", error)
                django.db.close_old_connections()
                stop.wait(OUTAGE_PAUSE_S)
                continue
            if once and not left:
                return


def _work_a_while(consumer: Consumer, stop: Stop) -> int:
    """Look around, then commit what comes for a second; how many entries are left."""
    django.db.close_old_connections()
    products = products_with_queues()
    for product in products:
        counter.open_queue(product.pk)
        consumer.take_over(product)
        heal(product)
    until = time.monotonic() + LOOK_AROUND_S
    while time.monotonic() < until and not stop.asked:
        if max((consumer.commit_new(product) for product in products), default=0) < LARGEST_BATCH:
            stop.wait(GATHER_S)
    return sum(counter.on_their_way(product.pk) for product in products)
