"""The shop that browsers visit: its products, and what people do in it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from django.urls import reverse
from playwright.sync_api import Locator, Page, expect

from conftest import MakeProduct
from inventory.models import Product, Stock
from shop.tests.browser.watching import Watch

ORDER = re.compile(r"/orders/[0-9a-f-]{36}/$")
TICKET = re.compile(r"/tickets/[0-9a-f-]{36}/$")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Shop:
    """A served shop. Its products have slugs of their own: the server remembers those it met."""

    address: str
    make_product: MakeProduct
    watch: Watch
    until_the_end: ExitStack

    def offer(self, *, name: str = "Brass lamp", **fields: Any) -> Product:
        """Put a product on sale; `units` and the product's fields as given."""
        return self.make_product(f"lamp-{next(_numbers)}", name=name, **fields)

    def keep_busy(self, product: Product) -> None:
        """Hold the product's stock row until the test ends: whoever buys it waits, then is told."""
        self.until_the_end.enter_context(stock_row_held(product))


@contextmanager
def stock_row_held(product: Product) -> Iterator[None]:
    """Hold the stock row, for longer than the database lets a transaction be idle."""
    patient = connection.vendor == "mysql" and connection.mysql_is_mariadb
    with connection.cursor() as cursor:
        if patient:
            cursor.execute("SET SESSION idle_transaction_timeout = 0")
        with transaction.atomic():
            Stock.objects.select_for_update().get(product=product)
            yield
        if patient:
            cursor.execute("SET SESSION idle_transaction_timeout = DEFAULT")


def visit(page: Page, product: Product) -> None:
    """Open a product's page by its address."""
    page.goto(reverse("product", args=[product.slug]))


def link_to(page: Page, product: Product) -> Locator:
    """The link to a product, on a page that lists it."""
    address = reverse("product", args=[product.slug])
    return page.get_by_role("main").locator(f'a[href="{address}"]').first


def buy_button(page: Page) -> Locator:
    """The button that buys, in whatever language and state."""
    return page.locator('form[action$="/buy/"] button:not([type="button"])')


def expect_order(page: Page) -> str:
    """Wait until the page is an order; its reference."""
    expect(page).to_have_url(ORDER)
    return page.url.rstrip("/").rsplit("/", 1)[1]
