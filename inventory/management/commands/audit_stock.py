from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from inventory.audit import audit, read_books
from inventory.models import Product


class Command(BaseCommand):
    help = "Compare stock row, ledger and orders; exit 1 on any discrepancy."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("slugs", nargs="*", metavar="slug", help="All products if none.")
        parser.add_argument("--json", action="store_true", help="For programs.")

    def handle(self, *args: Any, slugs: list[str], **options: Any) -> None:
        """Audit each product, and tell the truth in the exit code."""
        products = Product.objects.order_by("slug")
        if slugs:
            products = products.filter(slug__in=slugs)
            unknown = set(slugs) - {product.slug for product in products}
            if unknown:
                raise CommandError(f"There is no product {', '.join(sorted(unknown))}.")
        findings = {product.slug: audit(read_books(product.pk)) for product in products}
        if options["json"]:
            plain = {
                slug: [asdict(finding) for finding in found] for slug, found in findings.items()
            }
            self.stdout.write(json.dumps(plain, indent=2))
        else:
            for slug, found in findings.items():
                self.stdout.write(f"{slug}: {'clean' if not found else f'{len(found)} findings'}")
                for finding in found:
                    self.stdout.write(f"  {finding.code}: {finding.text}")
        if any(findings.values()):
            raise SystemExit(1)
