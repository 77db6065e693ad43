"""System checks: what would go wrong on the first purchase is said at start-up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections

from inventory.errors import StrategyUnavailable
from inventory.models import Product
from inventory.strategies import usable


@register(Tags.database)
def check_products_can_be_sold(
    *, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """inventory.E001: every product's strategy exists and can run here."""
    if "default" not in (databases or []):
        return []
    if Product._meta.db_table not in connections["default"].introspection.table_names():
        return []
    problems: list[CheckMessage] = []
    # Only these two columns: migrate runs this check before it has added a new one.
    for slug, strategy in Product.objects.for_sale().values_list("slug", "strategy"):
        try:
            usable(strategy)
        except StrategyUnavailable as error:
            problems.append(
                Error(
                    f"“{slug}” cannot be sold by {error.strategy}: {error.reason}.",
                    hint="Provide what is missing, or give the product another strategy.",
                    id="inventory.E001",
                )
            )
    return problems
