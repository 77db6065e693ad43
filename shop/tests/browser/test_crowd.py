"""Fifty browsers before one waiting room: everybody has a place, nobody buys without a turn."""

from __future__ import annotations

import re
from datetime import timedelta

from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from inventory.models import Order, Product, Stock
from shop.tests.browser.conftest import Visitor
from shop.tests.browser.shop import ORDER, Shop, buy_button, expect_order, visit

VISITORS = 50
UNITS = 5
SOME = 10
NUMBER = re.compile(r"^[1-9][0-9]*$")
WITHIN_MS = 60_000
BUYS_AT_ONCE = """addEventListener("DOMContentLoaded", () =>
    document.querySelector("form[data-buy] [data-buy-button]")?.click())"""
BUY_WITHOUT_A_TURN = """async address => {
    const body = new FormData(document.querySelector("form.languages"));
    const headers = {Accept: "application/json"};
    const answer = await fetch(address, {method: "POST", body, headers});
    return (await answer.json()).code;
}"""


def test_of_fifty_in_the_waiting_room_five_get_the_five_units(shop: Shop, visitor: Visitor) -> None:
    pages = [eager(visitor()) for _ in range(VISITORS)]
    opens_at = timezone.now() + time_to_enter(pages)
    product = shop.offer(units=UNITS, admitted_per_minute=3000, opens_at=opens_at)
    buy = reverse("buy", args=[product.slug])
    shop.watch.allow(f"^409 POST .*{buy}$")

    for page in pages:
        page.goto(reverse("queue", args=[product.slug]), wait_until="commit")
    for page in pages:
        expect(page.get_by_text("You are in.")).to_be_visible()
        assert page.evaluate(BUY_WITHOUT_A_TURN, buy) in ("queue_required", "not_open")
    assert timezone.now() < opens_at, "the machine is too slow for so many in so short a time"
    assert not Order.objects.exists()

    until_then_ms = 1000 * (opens_at - timezone.now()).total_seconds()
    for page in pages:
        order_or_not = page.locator("article.order").or_(page.get_by_text("No unit is left"))
        expect(order_or_not).to_be_visible(timeout=until_then_ms + WITHIN_MS)

    lucky = [page for page in pages if ORDER.search(page.url)]
    assert len(lucky) == UNITS
    assert Order.objects.values("buyer").distinct().count() == Order.objects.count() == UNITS
    assert Stock.objects.get(product=product).available == 0
    for page in pages:
        if page not in lucky:
            expect(page.locator(".place strong")).to_have_text(NUMBER)
            assert page.evaluate(BUY_WITHOUT_A_TURN, buy) in ("queue_required", "sold_out")
    assert Order.objects.count() == UNITS


def test_who_was_let_in_once_buys_once(shop: Shop, page: Page) -> None:
    product = shop.offer(admitted_per_minute=60)
    page.goto(reverse("queue", args=[product.slug]))
    expect(page).to_have_url(re.compile(reverse("product", args=[product.slug]) + "$"))
    buy_button(page).click()
    expect_order(page)

    visit(page, product)
    expect(buy_button(page)).to_have_count(0)
    shop.watch.allow("^409 POST .*/buy/$")
    address = reverse("buy", args=[product.slug])
    assert page.evaluate(BUY_WITHOUT_A_TURN, address) == "queue_required"

    assert Order.objects.count() == 1


def test_who_buys_without_having_waited_is_led_to_the_waiting_room(shop: Shop, page: Page) -> None:
    """The operator opened a waiting room after the page was loaded."""
    product = shop.offer()
    visit(page, product)
    Product.objects.update(admitted_per_minute=60)
    shop.watch.allow("^409 POST .*/buy/$")

    buy_button(page).click()
    page.get_by_role("alert").get_by_role("link", name="Enter the waiting room").click()
    expect(page).to_have_url(re.compile(reverse("product", args=[product.slug]) + "$"))
    buy_button(page).click()

    expect_order(page)
    assert Order.objects.count() == 1


def time_to_enter(pages: list[Page]) -> timedelta:
    """How long this machine takes to open the pages, and more."""
    before = timezone.now()
    for page in pages[:SOME]:
        page.goto("/")
    return 1.5 * (timezone.now() - before) * len(pages) / SOME + timedelta(seconds=3)


def eager(page: Page) -> Page:
    """Buy as soon as there is a button to buy."""
    page.add_init_script(BUYS_AT_ONCE)
    return page
