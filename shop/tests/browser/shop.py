"""The shop that browsers visit: its products and mails, and what people do in it."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, models, transaction
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Locator, Page, expect

from conftest import MakeProduct
from inventory import adjustments
from inventory.models import Movement, Product, Stock
from inventory.tests.servers import OwnRedis
from shop import buyers
from shop.tests.browser.watching import Watch

ORDER = re.compile(r"/orders/[0-9a-f-]{36}/$")
TICKET = re.compile(r"/tickets/[0-9a-f-]{36}/$")
LINK = re.compile(r"^http\S+$", re.MULTILINE)
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
}
WAIT_S = 10
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Shop:
    """A served shop. Its products have slugs of their own: the server remembers those it met."""

    address: str
    mails: Path
    redis: OwnRedis
    make_product: MakeProduct
    watch: Watch
    until_the_end: ExitStack

    def offer(self, *, name: str = "Brass lamp", **fields: Any) -> Product:
        """Put a product on sale; `units` and the product's fields as given."""
        return self.make_product(f"lamp-{next(_numbers)}", name=name, **fields)

    def keep_busy(self, product: Product) -> None:
        """Hold the product's stock row until the test ends: whoever buys it waits, then is told."""
        self.until_the_end.enter_context(stock_row_held(product))

    def lose_redis(self) -> None:
        """Let Redis say nothing until the test ends."""
        self.redis.hang()
        self.until_the_end.callback(self.redis.go_on)

    def link_mailed_to(self, address: str) -> str:
        """The link in the one mail that this address was sent."""
        [text] = [mail for mail in map(Path.read_text, self.mails.iterdir()) if address in mail]
        [link] = LINK.findall(text)
        return str(link)


def stock_row_held(product: Product) -> AbstractContextManager[None]:
    """Hold a product's stock row."""
    return row_held(Stock.objects.filter(product=product))


@contextmanager
def row_held(row: models.QuerySet[Any]) -> Iterator[None]:
    """Hold a row, for longer than the database lets a transaction be idle."""
    patient = connection.vendor == "mysql" and connection.mysql_is_mariadb
    with connection.cursor() as cursor:
        if patient:
            cursor.execute("SET SESSION idle_transaction_timeout = 0")
        with transaction.atomic():
            row.select_for_update().get()
            yield
        if patient:
            cursor.execute("SET SESSION idle_transaction_timeout = DEFAULT")


def wait_until_somebody_waits_for_the_row() -> None:
    """See one buyer at a row that is held; others may stand in line behind it."""
    at_work = (
        "SELECT info FROM information_schema.processlist WHERE db = DATABASE()"
        " AND command = 'Query' AND id <> CONNECTION_ID()"
    )
    deadline = time.monotonic() + WAIT_S
    with connection.cursor() as cursor:
        while time.monotonic() < deadline:
            cursor.execute(at_work)
            if any("UPDATE" in str(query) for (query,) in cursor.fetchall()):
                return
            time.sleep(0.02)
    raise AssertionError("nobody came to the row")


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


def pay_button(page: Page) -> Locator:
    """The button of an order that pays it at once."""
    return page.locator('form[action$="/pay/"] button:not([name])')


def cancel_button(page: Page) -> Locator:
    """The button of an order that calls it off."""
    return page.locator('form[action$="/cancel/"] button')


def submit_unscripted(form: Locator) -> None:
    """Send a form as a browser without scripts does, whatever its values."""
    with form.page.expect_navigation():
        form.evaluate("form => form.submit()")


def expect_state(page: Page, state: str) -> None:
    """Wait until the page is an order in this state."""
    expect(page.get_by_role("main").locator(f"article .state.{state}")).to_be_visible()


def buyer_of(page: Page) -> str:
    """The guest that a page's visitor is, once there was a first page."""
    [cookie] = [c for c in page.context.cookies() if c["name"] == buyers.COOKIE]
    return f"guest:{cookie['value'].split(':')[0]}"


def come_signed_in(page: Page, address: str) -> User:
    """Make a page's visitor a member who signed in already; there is no password."""
    user = User.objects.create_user(address, address)
    client = Client()
    client.force_login(user, backend=settings.AUTHENTICATION_BACKENDS[-1])
    name = settings.SESSION_COOKIE_NAME
    origin = page.evaluate("location.origin")
    page.context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": origin}])
    return user


def expect_order(page: Page) -> str:
    """Wait until the page is an order; its reference."""
    expect(page).to_have_url(ORDER)
    return page.url.rstrip("/").rsplit("/", 1)[1]


def take_all(product: Product, *, units: int) -> None:
    """Leave nothing of a product, as if others had been faster."""
    adjustments.adjust(
        product_id=product.pk,
        delta=-units,
        kind=Movement.Kind.CORRECTION,
        reason="others were faster",
        actor="test",
    )
