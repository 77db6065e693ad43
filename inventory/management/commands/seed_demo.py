from __future__ import annotations

import uuid
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.core.files.base import ContentFile
from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils import timezone

from inventory import adjustments
from inventory.models import Movement, Product

PICTURES = Path(__file__).parents[2] / "demo_pictures"


class Command(BaseCommand):
    help = "Create a few believable products where they are missing, and one for the lab."

    def handle(self, *args: Any, **options: Any) -> None:
        """Create what is not there yet; change nothing that is."""
        now = timezone.now()
        _create("aurora-lamp", "Aurora desk lamp", "Warm light, hand-blown glass.", "129.00", 40)
        _create("field-kettle", "Field kettle", "One litre, enamel, for gas or fire.", "64.50", 250)
        _create("night-print", "Night print No. 7", "Signed silkscreen, 50 × 70 cm.", "240.00", 1)
        _create(
            "harbour-watch",
            "Harbour watch",
            "Hand-wound, steel, numbered 1 to 25.",
            "310.00",
            25,
            hold_minutes=10,
            limit_per_buyer=2,
        )
        _create(
            "orbit-headphones",
            "Orbit headphones",
            "First run of 500, in graphite.",
            "189.00",
            500,
            opens_at=now + timedelta(minutes=15),
            closes_at=now + timedelta(days=2),
            admitted_per_minute=300,
        )
        _create("lab", "Lab unit", "What the load lab sells.", "1.00", 0, is_lab=True)
        self.stdout.write("The demo products are there.")


@transaction.atomic
def _create(
    slug: str, name: str, description: str, price: str, units: int, **settings: Any
) -> None:
    product, created = Product.objects.get_or_create(
        slug=slug,
        defaults={"name": name, "description": description, "price": Decimal(price), **settings},
    )
    if not created:
        return
    picture = PICTURES / f"{slug}.webp"
    if picture.exists():
        product.image.save(f"{uuid.uuid4().hex}.webp", ContentFile(picture.read_bytes()))
    adjustments.open_stock(product_id=product.pk)
    if units:
        adjustments.adjust(
            product_id=product.pk,
            delta=units,
            kind=Movement.Kind.RESTOCK,
            reason="first delivery",
            actor="seed_demo",
        )
