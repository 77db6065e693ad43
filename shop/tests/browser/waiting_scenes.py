"""The waiting room in every state."""

from __future__ import annotations

from datetime import timedelta

from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from inventory.models import Product
from inventory.purchases import terms_of
from shop import waiting_room
from shop.tests.browser.shop import Shop, submit_unscripted, visit

A_MINUTE = 1


def product_with_waiting_room(shop: Shop, page: Page) -> None:
    """A product that is sold through a waiting room."""
    visit(page, shop.offer(admitted_per_minute=A_MINUTE))


def waiting_room_early(shop: Shop, page: Page) -> None:
    """The room before the sale."""
    enter(
        page, shop.offer(opens_at=timezone.now() + timedelta(hours=1), admitted_per_minute=A_MINUTE)
    )


def waiting_room_waiting(shop: Shop, page: Page) -> None:
    """The room during the sale, with others in front."""
    product = shop.offer(admitted_per_minute=A_MINUTE)
    for number in range(7):
        waiting_room.look(terms_of(product.slug), buyer=f"guest:{number}", token="", units=10)
    enter(page, product)
    expect(page.locator(".place strong")).to_have_text("7")


def waiting_room_sold_out(shop: Shop, page: Page) -> None:
    """The room when nothing is left."""
    enter(page, shop.offer(units=0, admitted_per_minute=A_MINUTE))


def waiting_room_paused(shop: Shop, page: Page) -> None:
    """The room when nobody can be asked how it stands."""
    product = shop.offer(admitted_per_minute=A_MINUTE)
    shop.watch.allow("^503 GET .*/queue/")
    shop.lose_redis()
    enter(page, product)


def refused_queue(shop: Shop, page: Page) -> None:
    """The answer to someone who buys without having waited."""
    product = shop.offer()
    visit(page, product)
    Product.objects.update(admitted_per_minute=A_MINUTE)
    shop.watch.allow("^409 POST .*/buy/$")
    submit_unscripted(page.locator('form[action$="/buy/"]'))
    expect(page.get_by_role("alert")).to_be_visible()


def enter(page: Page, product: Product) -> None:
    """Open the waiting room by its address."""
    page.goto(reverse("queue", args=[product.slug]))
    expect(page.locator("#place")).to_be_attached()


ALL = (
    product_with_waiting_room,
    waiting_room_early,
    waiting_room_waiting,
    waiting_room_sold_out,
    waiting_room_paused,
    refused_queue,
)
