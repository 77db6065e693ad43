"""A page that was opened before the sale."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone
from playwright.sync_api import Page, expect

from inventory.models import Order
from shop.tests.browser.conftest import Visitor
from shop.tests.browser.shop import Shop, buy_button, expect_order, visit

OPENS_IN = timedelta(seconds=3)
WITHIN_MS = 6_000


def test_the_button_opens_by_itself_and_buys(shop: Shop, page: Page) -> None:
    visit(page, shop.offer(opens_at=timezone.now() + OPENS_IN))
    expect(buy_button(page)).to_be_disabled()
    page.evaluate("window.stillThere = true")

    buy = page.get_by_role("button", name="Buy", exact=True)
    expect(buy).to_be_enabled(timeout=WITHIN_MS)

    assert page.evaluate("window.stillThere") is True, "the page was loaded again"
    buy.click()
    expect_order(page)
    assert Order.objects.count() == 1


def test_the_button_stays_shut_before_the_start(shop: Shop, page: Page) -> None:
    visit(page, shop.offer(opens_at=timezone.now() + timedelta(minutes=1)))

    page.wait_for_timeout(1_500)

    expect(buy_button(page)).to_be_disabled()


def test_a_page_opened_before_the_start_can_be_loaded_again_without_javascript(
    shop: Shop, visitor: Visitor
) -> None:
    page = visitor(java_script_enabled=False)
    opens_at = timezone.now() + timedelta(seconds=1)
    visit(page, shop.offer(opens_at=opens_at))
    expect(buy_button(page)).to_be_disabled()

    page.wait_for_timeout(1_200)
    page.reload()
    buy_button(page).click()

    expect_order(page)
