"""One click, one purchase; one unit, one buyer: whatever people and networks do."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Page, Route, expect

from inventory.models import Order, Stock
from shop.tests.browser.conftest import Visitor
from shop.tests.browser.shop import (
    ORDER,
    Shop,
    buy_button,
    expect_order,
    stock_row_held,
    take_all,
    visit,
    wait_until_somebody_waits_for_the_row,
)

LEFT_BEHIND = r"^failed POST .*/buy/ net::ERR_ABORTED$"
"""What a browser says of a form that is sent again before it was answered."""
TOGETHER_IN_MS = 500
PRESS_AT = "(button, moment) => { setTimeout(() => button.click(), moment - Date.now()) }"


def test_of_two_browsers_that_race_for_the_last_unit_one_gets_it(
    shop: Shop, visitor: Visitor
) -> None:
    product = shop.offer(units=1)
    pages = [visitor(), visitor()]
    for page in pages:
        visit(page, product)
    shop.watch.allow("^409 POST .*/buy/$")

    with stock_row_held(product):
        moment_ms = 1000 * time.time() + TOGETHER_IN_MS
        with pages[0].expect_request("**/buy/"), pages[1].expect_request("**/buy/"):
            for page in pages:
                buy_button(page).evaluate(PRESS_AT, moment_ms)
        wait_until_somebody_waits_for_the_row()

    for page in pages:
        expect(page.get_by_role("alert").or_(page.locator("dl code"))).to_be_visible()
    lucky = [page for page in pages if ORDER.search(page.url)]
    [unlucky] = [page for page in pages if page not in lucky]
    assert len(lucky) == 1
    expect(unlucky.get_by_role("alert")).to_contain_text("old out")
    assert Order.objects.count() == 1
    assert Stock.objects.get(product=product).available == 0


def test_a_double_click_buys_once(shop: Shop, page: Page) -> None:
    product = shop.offer(units=5)
    visit(page, product)
    shop.watch.allow(LEFT_BEHIND)

    with stock_row_held(product):
        buy_button(page).dblclick(no_wait_after=True)
        wait_until_somebody_waits_for_the_row()

    reference = expect_order(page)
    assert str(Order.objects.get().reference) == reference
    assert Stock.objects.get(product=product).available == 4


def test_the_same_form_sent_twice_is_one_order(shop: Shop, page: Page) -> None:
    """As above, where no script keeps the second request from the server."""
    product = shop.offer(units=5)
    visit(page, product)
    send = """form => Promise.all([1, 2].map(
        () => fetch(form.action, {method: "POST", body: new FormData(form)})
    )).then(answers => answers.map(answer => answer.url))"""

    addresses = page.locator('form[action$="/buy/"]').evaluate(send)

    assert len(set(addresses)) == 1
    assert ORDER.search(addresses[0])
    assert Stock.objects.get(product=product).available == 4


def test_a_reload_of_the_result_shows_the_same_order(shop: Shop, page: Page) -> None:
    visit(page, shop.offer())
    buy_button(page).click()
    reference = expect_order(page)

    page.reload()

    assert expect_order(page) == reference
    assert Order.objects.count() == 1


def test_going_back_and_buying_again_leads_to_the_same_order(shop: Shop, page: Page) -> None:
    visit(page, shop.offer())
    buy_button(page).click()
    reference = expect_order(page)

    page.go_back()
    buy_button(page).click()

    assert expect_order(page) == reference
    assert Order.objects.count() == 1


def test_going_back_without_javascript_leads_to_the_same_order(
    shop: Shop, visitor: Visitor
) -> None:
    """Chromium keeps the page, once it has the shop's cookies: the first visit brings them."""
    page = visitor(java_script_enabled=False)
    product = shop.offer()
    visit(page, product)
    visit(page, product)
    buy_button(page).click()
    reference = expect_order(page)

    page.go_back()
    buy_button(page).click()

    assert expect_order(page) == reference
    assert Order.objects.count() == 1


def test_going_back_and_reloading_leads_to_the_same_order(shop: Shop, page: Page) -> None:
    visit(page, shop.offer())
    buy_button(page).click()
    reference = expect_order(page)

    page.go_back()
    page.reload()
    buy_button(page).click()

    assert expect_order(page) == reference
    assert Order.objects.count() == 1


def test_a_new_visit_buys_anew(shop: Shop, page: Page) -> None:
    """The key belongs to the page, not to the buyer: whoever comes again may buy again."""
    product = shop.offer()
    for _ in range(2):
        visit(page, product)
        buy_button(page).click()
        expect_order(page)

    assert Order.objects.count() == 2


def test_a_reload_of_a_refusal_without_javascript_asks_again(shop: Shop, visitor: Visitor) -> None:
    page = visitor(java_script_enabled=False)
    product = shop.offer(units=1)
    visit(page, product)
    take_all(product, units=1)
    shop.watch.allow("^409 POST .*/buy/$")
    buy_button(page).click()
    expect(page.get_by_role("alert")).to_be_visible()
    take_all(product, units=-1)
    time.sleep(0.2)  # the server remembers "sold out" for a tenth of a second

    page.reload()

    expect_order(page)
    assert Order.objects.count() == 1


def test_who_is_refused_can_buy_on_the_same_page_what_comes_back(shop: Shop, page: Page) -> None:
    product = shop.offer(units=1)
    visit(page, product)
    take_all(product, units=1)
    shop.watch.allow("^409 POST .*/buy/$")
    buy_button(page).click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(buy_button(page)).to_be_disabled()

    take_all(product, units=-1)
    expect(buy_button(page)).to_be_enabled()
    buy_button(page).click()

    expect_order(page)
    assert Order.objects.count() == 1


def test_offline_when_buying_and_back_again_is_one_order(shop: Shop, page: Page) -> None:
    visit(page, shop.offer())
    shop.watch.allow("net::ERR_INTERNET_DISCONNECTED$")

    page.context.set_offline(True)
    press_on_a_dead_line(page)
    assert not Order.objects.exists()
    page.context.set_offline(False)

    expect_order(page)
    assert Order.objects.count() == 1


@pytest.mark.parametrize(
    ("way", "java_script_enabled"),
    [("by itself", True), ("reload", True), ("reload", False), ("back", False)],
)
def test_an_answer_lost_after_the_sale_is_one_order(
    shop: Shop, visitor: Visitor, way: str, java_script_enabled: bool
) -> None:
    """The server sold; the line broke; the buyer, who was here before, knows nothing of it."""
    page = visitor(java_script_enabled=java_script_enabled)
    page.goto("/")
    visit(page, shop.offer())
    shop.watch.allow(r"^failed POST .*/buy/ net::ERR_CONNECTION_RESET$")

    def lose_the_answer(route: Route) -> None:
        answer = route.fetch(max_redirects=0)
        assert answer.status < 400
        route.abort("connectionreset")

    page.route("**/buy/", lose_the_answer, times=1)
    press_on_a_dead_line(page)
    reference = str(Order.objects.get().reference)
    if way == "reload":
        page.reload()
    if way == "back":
        page.go_back()
    if way != "by itself" and buy_button(page).count():
        buy_button(page).click()

    assert expect_order(page) == reference
    assert Order.objects.count() == 1


@pytest.mark.parametrize("java_script_enabled", [True, False], ids=["script", "no-script"])
def test_who_comes_when_all_is_busy_gets_one_order_in_the_end(
    shop: Shop, visitor: Visitor, java_script_enabled: bool
) -> None:
    page = visitor(java_script_enabled=java_script_enabled)
    product = shop.offer()
    visit(page, product)
    shop.watch.allow("^503 POST .*/buy/$")

    with stock_row_held(product):
        buy_button(page).click(no_wait_after=True)
        expect(
            page.get_by_text("nothing was sold").or_(page.get_by_text("Nothing was sold yet")).first
        ).to_be_visible()
    if not java_script_enabled:
        page.get_by_role("button", name="Try again").click()

    expect_order(page)
    assert Order.objects.count() == 1


def press_on_a_dead_line(page: Page) -> None:
    """Press the button and see the line fail, in the browser's own page or in one that waits."""
    with page.expect_event("requestfailed") as failed:
        buy_button(page).click(no_wait_after=True)
    if failed.value.is_navigation_request():
        expect(page).to_have_url(re.compile("^chrome-error:"))
