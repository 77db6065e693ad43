"""Members: they come by mail, and their orders are theirs wherever they sign in."""

from __future__ import annotations

import re

from django.contrib.auth.models import User
from django.urls import reverse
from playwright.sync_api import Page, expect

from inventory.models import Order
from shop.tests.browser.conftest import Visitor
from shop.tests.browser.member_scenes import ask_for_mail, choose, fill_in
from shop.tests.browser.shop import Shop, buy_button, come_signed_in, expect_order

ADDRESS = "grace@example.org"
PASSWORD = "a whole sentence, easy to keep"
ORDERS = re.compile(f"{reverse('order-list')}$")


def test_a_guest_becomes_a_member_and_keeps_the_orders(shop: Shop, visitor: Visitor) -> None:
    page, elsewhere = visitor(), visitor()
    product = shop.offer()
    as_guest = buy(page, product.slug)

    sign_up(page, shop)
    expect_orders(page, as_guest)
    as_member = buy(page, product.slug)
    expect_orders(page, as_guest, as_member)
    sign_out(page)
    expect_orders(page)
    shop.watch.allow("^404 GET .*/orders/")
    page.goto(reverse("order", args=[as_guest]))
    expect(page.get_by_role("heading", level=1)).to_have_text("Not found")

    for browser in (page, elsewhere):
        sign_in(browser)
        expect_orders(browser, as_guest, as_member)
    buyer = f"user:{User.objects.get(username=ADDRESS).pk}"
    assert set(Order.objects.values_list("buyer", flat=True)) == {buyer}


def test_what_a_member_bought_before_signing_in_joins_the_account(
    shop: Shop, visitor: Visitor
) -> None:
    page = visitor()
    User.objects.create_user(ADDRESS, ADDRESS, PASSWORD)
    reference = buy(page, shop.offer().slug)

    sign_in(page)

    expect_orders(page, reference)
    sign_out(page)
    expect_orders(page)


def test_the_next_guest_of_a_browser_does_not_see_the_orders_of_the_last(
    shop: Shop, page: Page
) -> None:
    buy(page, shop.offer().slug)
    page.goto("/")
    come_signed_in(page, ADDRESS)
    page.goto("/")
    sign_out(page)
    as_next_guest = buy(page, shop.offer().slug)

    expect_orders(page, as_next_guest)


def test_a_forgotten_password_is_replaced_by_mail(shop: Shop, visitor: Visitor) -> None:
    page, elsewhere = visitor(), visitor()
    User.objects.create_user(ADDRESS, ADDRESS, "what was it?")
    page.goto(reverse("sign-in"))
    page.get_by_role("link", name="I forgot my password").click()
    ask_for_mail(page, ADDRESS)

    page.goto(shop.link_mailed_to(ADDRESS))
    choose(page, PASSWORD)
    page.wait_for_url(f"**{reverse('password-reset-done')}")

    sign_in(elsewhere)
    elsewhere.goto(reverse("account"))
    expect(elsewhere.get_by_role("main")).to_contain_text(ADDRESS)


def sign_up(page: Page, shop: Shop) -> None:
    """Go the whole way from the front page, through the mailbox, into the shop."""
    page.goto("/")
    page.get_by_role("banner").get_by_role("link", name="Sign in").click()
    page.get_by_role("link", name="Sign up").click()
    ask_for_mail(page, ADDRESS)
    page.goto(shop.link_mailed_to(ADDRESS))
    choose(page, PASSWORD)
    expect(page).to_have_url(ORDERS)


def sign_in(page: Page) -> None:
    """Sign in with the password."""
    page.goto("/")
    page.get_by_role("banner").get_by_role("link", name="Sign in").click()
    fill_in(page, ADDRESS, PASSWORD)
    expect(page).to_have_url(ORDERS)


def sign_out(page: Page) -> None:
    """Sign out by the button that each page has."""
    page.get_by_role("banner").get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("banner").get_by_role("link", name="Sign in")).to_be_visible()


def buy(page: Page, slug: str) -> str:
    """Buy one unit; the order's reference."""
    page.goto(reverse("product", args=[slug]))
    buy_button(page).click()
    return expect_order(page)


def expect_orders(page: Page, *references: str) -> None:
    """See these orders among the visitor's own, and no others."""
    page.goto(reverse("order-list"))
    links = page.get_by_role("main").locator(".row h2 a")
    expect(links).to_have_count(len(references))
    addresses = {link.get_attribute("href") for link in links.all()}
    assert addresses == {reverse("order", args=[reference]) for reference in references}
