from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from inventory import adjustments
from inventory.errors import InventoryError, StockBusy
from inventory.retries import outage_as


class Command(BaseCommand):
    help = "Set the available units of products, as a movement like any other; all or none."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("slugs", nargs="+", metavar="slug")
        parser.add_argument("--units", type=int, required=True, help="Units available afterwards.")
        parser.add_argument("--reason", default="reset_stock", help="Kept in the ledger.")

    def handle(self, *args: Any, slugs: list[str], units: int, reason: str, **options: Any) -> None:
        """Reset, or say why nothing was changed."""
        try:
            with outage_as(StockBusy):
                adjustments.reset(slugs=slugs, units=units, reason=reason, actor="reset_stock")
        except InventoryError as error:
            raise CommandError(f"{error} Nothing was changed.") from error
        for slug in slugs:
            self.stdout.write(f"{slug}: {units} available")
