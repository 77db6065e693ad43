"""From the front page to an order, in every way that people go."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from inventory.models import Order
from shop.tests.browser.conftest import StartConsumer, Visitor
from shop.tests.browser.shop import (
    TICKET,
    Shop,
    buy_button,
    expect_order,
    link_to,
    pay_button,
    visit,
)

LANGUAGES = pytest.mark.parametrize("locale", ["en", "zh-CN"])


@LANGUAGES
def test_a_guest_goes_from_the_list_to_an_order_and_finds_it_again(shop: Shop, page: Page) -> None:
    product = shop.offer(units=3)

    page.goto(reverse("product-list"))
    link_to(page, product).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(product.name)
    buy_button(page).click()
    reference = expect_order(page)
    page.get_by_role("banner").locator(f'a[href="{reverse("order-list")}"]').click()
    link = page.get_by_role("main").locator(f'a[href="{reverse("order", args=[reference])}"]')
    link.first.click()

    assert expect_order(page) == reference
    order = Order.objects.get()
    assert str(order.reference) == reference
    assert order.quantity == 1


def test_buys_as_many_as_were_asked_for(shop: Shop, page: Page) -> None:
    visit(page, shop.offer(units=5))

    page.get_by_label("Quantity").fill("3")
    buy_button(page).click()

    expect_order(page)
    assert Order.objects.get().quantity == 3


def test_the_order_of_one_visitor_is_not_found_by_another(shop: Shop, visitor: Visitor) -> None:
    mine, yours = visitor(), visitor()
    visit(mine, shop.offer())
    buy_button(mine).click()
    reference = expect_order(mine)

    shop.watch.allow("^404 GET .*/orders/")
    yours.goto(reverse("order", args=[reference]))

    expect(yours.get_by_role("heading", level=1)).to_have_text("Not found")


@LANGUAGES
def test_buys_without_javascript(shop: Shop, visitor: Visitor, locale: str) -> None:
    page = visitor(locale=locale, java_script_enabled=False)
    product = shop.offer(units=1)

    page.goto(reverse("product-list"))
    link_to(page, product).click()
    buy_button(page).click()
    expect_order(page)
    page.get_by_role("banner").locator(f'a[href="{reverse("order-list")}"]').click()

    expect(page).to_have_url(re.compile(f"{reverse('order-list')}$"))
    expect(page.get_by_role("main")).to_contain_text(product.name)


def test_is_refused_without_javascript_in_a_sentence(shop: Shop, visitor: Visitor) -> None:
    page = visitor(java_script_enabled=False)
    visit(page, shop.offer(units=1))
    page.get_by_label("Quantity").fill("2")

    shop.watch.allow("^409 POST .*/buy/$")
    buy_button(page).click()

    expect(page.get_by_role("alert")).to_be_visible()
    assert not Order.objects.exists()


def test_buys_with_the_keyboard_alone_and_sees_where_it_is(shop: Shop, page: Page) -> None:
    product = shop.offer()
    page.goto(reverse("product-list"))

    press_tab_until(page, f'main a[href="{reverse("product", args=[product.slug])}"]')
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text(product.name)
    press_tab_until(page, 'form[action$="/buy/"] button:not([type="button"])')
    page.keyboard.press("Enter")

    expect_order(page)
    assert Order.objects.count() == 1


@pytest.mark.parametrize("java_script_enabled", [True, False], ids=["script", "no-script"])
def test_a_ticket_becomes_the_order_by_itself(
    shop: Shop, visitor: Visitor, start_consumer: StartConsumer, java_script_enabled: bool
) -> None:
    page = visitor(java_script_enabled=java_script_enabled)
    visit(page, shop.offer(strategy="redis_counter"))
    buy_button(page).click()
    expect(page).to_have_url(TICKET)
    assert not Order.objects.exists()

    start_consumer()

    reference = expect_order(page)
    assert str(Order.objects.get().reference) == reference


def test_who_changes_the_language_stays_on_the_page(shop: Shop, page: Page) -> None:
    visit(page, shop.offer(hold_minutes=10))
    product_page = page.url

    change_language(page, "zh-hans")
    assert page.url == product_page
    buy_button(page).click()
    expect_order(page)
    order_page = page.url
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans")
    change_language(page, "en")

    assert page.url == order_page
    expect(pay_button(page)).to_contain_text("Pay")


def change_language(page: Page, code: str) -> None:
    """Press the button that names the other language."""
    page.get_by_role("banner").locator(f'button[lang="{code}"]').click()
    expect(page.locator("html")).to_have_attribute("lang", code)


def press_tab_until(page: Page, selector: str) -> None:
    """Go on to an element with Tab; whatever has the focus on the way must show it."""
    for _ in range(30):
        page.keyboard.press("Tab")
        focus = page.locator(":focus")
        outlines = """e => [null, "::after"].map(
            pseudo => getComputedStyle(e, pseudo).outlineStyle)"""
        assert focus.evaluate(outlines) != ["none", "none"], focus.evaluate("e => e.outerHTML")
        if focus.evaluate("(e, selector) => e.matches(selector)", selector):
            return
    raise AssertionError(f"Tab does not lead to {selector}")
