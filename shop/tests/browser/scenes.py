"""Every page of the shop in every state, and how to get there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from inventory import adjustments
from inventory.models import Movement, Product
from shop.tests.browser.shop import TICKET, Shop, buy_button, expect_order, visit

Scene = Callable[[Shop, Page], None]
LOREM = "Spun brass, a linen shade and two metres of cloth cable. Numbered underneath."
HOUR = timedelta(hours=1)


def front_page(shop: Shop, page: Page) -> None:
    """The list, with a product in each state."""
    now = timezone.now()
    shop.offer(name="Brass lamp", description=LOREM, price="149.00", units=12)
    shop.offer(name="Desk clock", description=LOREM, price="89.50", opens_at=now + HOUR)
    shop.offer(name="Enamel kettle", description=LOREM, price="64.00", units=0)
    shop.offer(name="Oak stool", description=LOREM, price="210.00", closes_at=now - HOUR)
    page.goto(reverse("product-list"))


def front_page_without_products(shop: Shop, page: Page) -> None:
    """The list before anything is offered."""
    page.goto(reverse("product-list"))


def product_on_sale(shop: Shop, page: Page) -> None:
    """A product that can be bought, with a limit and an end."""
    ends = timezone.now() + HOUR
    visit(page, shop.offer(description=LOREM, units=12, limit_per_buyer=2, closes_at=ends))


def product_opening(shop: Shop, page: Page) -> None:
    """A product whose sale begins later."""
    visit(page, shop.offer(description=LOREM, opens_at=timezone.now() + HOUR))


def product_sold_out(shop: Shop, page: Page) -> None:
    """A product of which nothing is left."""
    visit(page, shop.offer(description=LOREM, units=0))


def product_ended(shop: Shop, page: Page) -> None:
    """A product whose sale is over."""
    visit(page, shop.offer(description=LOREM, closes_at=timezone.now() - HOUR))


def refused_sold_out(shop: Shop, page: Page) -> None:
    """The answer to someone who came a moment too late."""
    product = shop.offer(description=LOREM, units=1)
    visit(page, product)
    take_all(product, units=1)
    shop.watch.allow("^409 POST .*/buy/$")
    buy_button(page).click()
    expect(page.get_by_role("alert")).to_be_visible()


def refused_limit(shop: Shop, page: Page) -> None:
    """The answer to someone who has all they may have."""
    product = shop.offer(description=LOREM, limit_per_buyer=1)
    visit(page, product)
    buy_button(page).click()
    expect_order(page)
    visit(page, product)
    shop.watch.allow("^409 POST .*/buy/$")
    buy_button(page).click()
    expect(page.get_by_role("alert")).to_be_visible()


def busy(shop: Shop, page: Page) -> None:
    """The answer to someone who waited for too long; it takes seconds."""
    product = shop.offer(description=LOREM)
    visit(page, product)
    shop.keep_busy(product)
    shop.watch.allow("^503 POST .*/buy/$")
    buy_button(page).click()
    expect(page.get_by_role("alert")).to_be_visible()


def ticket(shop: Shop, page: Page) -> None:
    """A place in the queue of the Redis counter."""
    visit(page, shop.offer(description=LOREM, strategy="redis_counter"))
    buy_button(page).click()
    expect(page).to_have_url(TICKET)


def order(shop: Shop, page: Page) -> None:
    """What someone bought."""
    visit(page, shop.offer(description=LOREM))
    buy_button(page).click()
    expect_order(page)


def orders(shop: Shop, page: Page) -> None:
    """All that someone bought."""
    order(shop, page)
    order(shop, page)
    page.goto(reverse("order-list"))


def orders_without_any(shop: Shop, page: Page) -> None:
    """The orders of someone who bought nothing."""
    page.goto(reverse("order-list"))


def not_found(shop: Shop, page: Page) -> None:
    """An address where there is nothing."""
    shop.watch.allow("^404 GET .*/nothing/$")
    page.goto("/nothing/")


def form_too_old(shop: Shop, page: Page) -> None:
    """The answer to a form whose cookie is gone."""
    visit(page, shop.offer())
    page.context.clear_cookies()
    shop.watch.allow("^403 POST .*/buy/$")
    with page.expect_navigation():
        buy_button(page).click()


def take_all(product: Product, *, units: int) -> None:
    """Leave nothing of a product, as if others had been faster."""
    adjustments.adjust(
        product_id=product.pk,
        delta=-units,
        kind=Movement.Kind.CORRECTION,
        reason="others were faster",
        actor="test",
    )


SCENES: dict[str, Scene] = {
    scene.__name__: scene
    for scene in (
        front_page,
        front_page_without_products,
        product_on_sale,
        product_opening,
        product_sold_out,
        product_ended,
        refused_sold_out,
        refused_limit,
        busy,
        ticket,
        order,
        orders,
        orders_without_any,
        not_found,
        form_too_old,
    )
}
