"""Every page of the shop in every state, and how to get there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from shop.tests.browser import (
    desk_scenes,
    lab_scenes,
    member_scenes,
    order_scenes,
    stock_scenes,
    waiting_scenes,
)
from shop.tests.browser.shop import (
    TICKET,
    Shop,
    buy_button,
    expect_order,
    submit_unscripted,
    take_all,
    visit,
)

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
    submit_unscripted(page.locator('form[action$="/buy/"]'))
    expect(page.get_by_role("alert")).to_be_visible()


def buying(shop: Shop, page: Page) -> None:
    """The wait of someone who buys while others are busy; the page tries again by itself."""
    product = shop.offer(description=LOREM)
    visit(page, product)
    shop.keep_busy(product)
    shop.watch.allow("^503 POST .*/buy/$")
    buy_button(page).click()
    expect(page.locator("[data-buy-status]")).not_to_be_empty()


def ticket(shop: Shop, page: Page) -> None:
    """A place in the queue of the Redis counter."""
    visit(page, shop.offer(description=LOREM, strategy="redis_counter"))
    buy_button(page).click()
    expect(page).to_have_url(TICKET)


def not_found(shop: Shop, page: Page) -> None:
    """An address where there is nothing."""
    shop.watch.allow("^404 GET .*/nothing/$")
    page.goto("/nothing/")


def form_too_old(shop: Shop, page: Page) -> None:
    """The answer to a form whose cookie is gone."""
    visit(page, shop.offer())
    page.context.clear_cookies()
    shop.watch.allow("^403 POST .*/buy/$")
    buy_button(page).click()
    expect(page.get_by_role("alert")).to_be_visible()


def rate_limited(shop: Shop, page: Page) -> None:
    """The answer to someone who bought too often in too short a time."""
    visit(page, shop.offer(units=0))
    shop.watch.allow("^4.. POST .*/buy/$")
    form = page.locator('form[action$="/buy/"]')
    try_often = """form => Promise.all(Array.from({length: 10}, () =>
        fetch(form.action, {method: "POST", body: new FormData(form)})))"""
    form.evaluate(try_often + ".then(() => null)")
    submit_unscripted(form)
    expect(page.get_by_role("alert")).to_be_visible()


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
        buying,
        ticket,
        not_found,
        form_too_old,
        rate_limited,
        *order_scenes.ALL,
        *member_scenes.ALL,
        *waiting_scenes.ALL,
        *stock_scenes.ALL,
        *desk_scenes.ALL,
        *lab_scenes.ALL,
    )
}
