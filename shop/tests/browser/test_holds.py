"""What is held: paid once, given back when it is not."""

from __future__ import annotations

import re
from datetime import timedelta

from django.urls import reverse
from playwright.sync_api import Page, expect

from inventory.holds import release_expired
from inventory.models import Movement, Order, Payment, Product, Stock
from shop.tests.browser.conftest import Visitor
from shop.tests.browser.shop import (
    PHONE,
    Shop,
    buy_button,
    cancel_button,
    expect_order,
    expect_state,
    pay_button,
    row_held,
    visit,
    wait_until_somebody_waits_for_the_row,
)

LEFT_BEHIND = r"^failed POST .*/pay/ net::ERR_ABORTED$"
"""What a browser says of a form that is sent again before it was answered."""
TIME_LEFT = timedelta(seconds=3)


def test_three_taps_on_a_phone_lead_from_the_front_page_to_a_paid_order(
    shop: Shop, visitor: Visitor
) -> None:
    page = visitor(**PHONE)
    shop.offer(hold_minutes=10, description="Spun brass.")

    page.goto("/")
    expect(buy_button(page)).to_be_in_viewport(ratio=1)
    buy_button(page).tap()
    expect_order(page)
    expect(pay_button(page)).to_be_in_viewport(ratio=1)
    pay_button(page).tap()

    expect_state(page, "paid")
    assert Order.objects.get().status == Order.Status.PAID
    assert Payment.objects.get().status == Payment.Status.CONFIRMED


def test_pays_without_javascript(shop: Shop, visitor: Visitor) -> None:
    page = visitor(java_script_enabled=False)
    hold(page, shop.offer(hold_minutes=10))

    pay_button(page).click()

    expect_state(page, "paid")


def test_pays_on_the_page_of_the_provider_after_declining(shop: Shop, page: Page) -> None:
    hold(page, shop.offer(hold_minutes=10))

    for choice in ("Decline", re.compile("^Pay")):
        page.get_by_role("button", name="Choose on the provider's page").click()
        page.get_by_role("button", name=choice).click()
        expect_order_page(page)

    expect_state(page, "paid")
    assert Payment.objects.get().status == Payment.Status.CONFIRMED


def test_an_order_turns_by_itself_when_its_time_is_over(shop: Shop, page: Page) -> None:
    product = shop.offer(hold_minutes=1, units=1)
    hold(page, product)
    now = Order.objects.with_state().get().now
    Order.objects.update(expires_at=now + TIME_LEFT)
    page.reload()
    expect_state(page, "held")

    expect_state(page, "expired")
    released = release_expired()

    expect(page.get_by_role("heading", level=1)).to_have_text("Not paid in time")
    expect(pay_button(page)).to_have_count(0)
    assert released == 1
    assert Stock.objects.get(product=product).available == 1
    page.reload()
    expect_state(page, "expired")


def test_a_double_click_pays_once(shop: Shop, page: Page) -> None:
    hold(page, shop.offer(hold_minutes=10))
    shop.watch.allow(LEFT_BEHIND)

    with row_held(Order.objects.all()):
        pay_button(page).dblclick(no_wait_after=True)
        wait_until_somebody_waits_for_the_row()

    expect_state(page, "paid")
    assert Payment.objects.get().status == Payment.Status.CONFIRMED


def test_paying_in_two_tabs_pays_once(shop: Shop, page: Page) -> None:
    hold(page, shop.offer(hold_minutes=10))
    tab = page.context.new_page()
    tab.goto(page.url)

    for each in (page, tab):
        pay_button(each).click()
        expect_state(each, "paid")

    assert Payment.objects.count() == 1


def test_a_reload_and_the_way_back_pay_no_second_time(shop: Shop, page: Page) -> None:
    hold(page, shop.offer(hold_minutes=10))
    pay_button(page).click()
    expect_state(page, "paid")

    page.reload()
    expect_state(page, "paid")
    page.go_back()
    pay_button(page).or_(page.locator(".state.paid")).first.wait_for()
    if pay_button(page).count():
        pay_button(page).click()

    expect_state(page, "paid")
    assert Payment.objects.count() == 1


def test_who_cancels_gives_the_last_unit_to_another(shop: Shop, visitor: Visitor) -> None:
    mine, yours = visitor(), visitor()
    product = shop.offer(hold_minutes=10, units=1)
    hold(mine, product)
    visit(yours, product)
    expect(buy_button(yours)).to_be_disabled()

    cancel_button(mine).click()
    expect_state(mine, "cancelled")
    assert Stock.objects.get(product=product).available == 1
    visit(yours, product)
    buy_button(yours).click()

    expect_order(yours)
    expect_state(yours, "held")
    assert Stock.objects.get(product=product).available == 0
    kinds = Movement.objects.order_by("version").values_list("kind", flat=True)
    assert list(kinds)[1:] == [Movement.Kind.SALE, Movement.Kind.CANCELLATION, Movement.Kind.SALE]


def hold(page: Page, product: Product) -> None:
    """Buy one unit, which is held until it is paid."""
    visit(page, product)
    buy_button(page).click()
    expect_order(page)
    expect_state(page, "held")


def expect_order_page(page: Page) -> None:
    """Wait until the page is the order, declined or not."""
    address = reverse("order", args=[Order.objects.get().pk])
    expect(page).to_have_url(re.compile(address))
