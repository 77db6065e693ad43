"""An operator who has never seen the desk finds out, and puts things right."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from inventory.models import Movement, Order, Stock
from shop.tests.browser.conftest import Visitor
from shop.tests.browser.shop import Shop
from shop.tests.browser.stock_scenes import (
    WHY,
    buy,
    come_as_operator,
    desk_product,
    open_product,
    sold_product,
)

PAINTED = """canvas => {
    const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const seen = new Set();
    for (let at = 0; at < data.length; at += 4) seen.add(data.slice(at, at + 4).join());
    return seen.size;
}"""
"""How many colours a canvas has; a blank one has one."""
PALETTE = {"light": [0x1F, 0x6F, 0xEB], "dark": [0x79, 0xB8, 0xFF]}
HAS_COLOUR = """(canvas, [red, green, blue]) => {
    const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    for (let at = 0; at < data.length; at += 4)
        if (data[at] === red && data[at + 1] === green && data[at + 2] === blue) return true;
    return false;
}"""


def test_sees_how_many_are_left_and_why(shop: Shop, page: Page) -> None:
    product = sold_product(shop, come_as_operator(page))
    left = Stock.objects.get(product=product).available

    page.goto(reverse("admin:index"))
    page.get_by_role("link", name="Products").first.click()
    page.get_by_role("link", name=product.name).click()

    expect(page.locator(".figure")).to_have_text(str(left))
    expect(
        page.get_by_text("The last change by hand: Correction by ada@example.org")
    ).to_be_visible()
    expect(page.get_by_text("Since then 6 sales and returns changed it by -9.")).to_be_visible()


def test_the_chart_is_drawn_and_its_table_has_the_same_numbers(shop: Shop, page: Page) -> None:
    shop.watch.allow("willReadFrequently")
    desk_product(shop, page)
    canvas = page.locator("canvas")
    data: dict[str, Any] = json.loads(page.locator("#stock-history-data").text_content() or "")

    page.get_by_text("The same numbers").click()
    rows = page.locator("#stock-history tbody tr")
    table = [[cell.inner_text() for cell in row.locator("th,td").all()] for row in rows.all()]

    [series] = data["series"]
    expected = [
        [
            f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}",
            f"{value} {mark}".rstrip(),
        ]
        for at, value, mark in zip(data["labels"], series["values"], series["marks"], strict=True)
    ]
    assert table == expected
    assert len(table) == Movement.objects.count()
    assert canvas.evaluate(PAINTED) > 3
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(200)
        assert canvas.evaluate(HAS_COLOUR, PALETTE[scheme]), scheme


def test_restocks_with_a_reason_and_is_asked_again_when_the_stock_moved(
    shop: Shop, page: Page
) -> None:
    product = sold_product(shop, come_as_operator(page))
    before = Stock.objects.get(product=product).available
    open_product(page, product)

    page.get_by_role("link", name="Restock or correct").click()
    page.get_by_label("Change by").fill("20")
    page.get_by_label("Reason").fill("a pallet came")
    page.get_by_role("button", name="Show before and after").click()
    expect(page.locator(".before-after .total td")).to_have_text(str(before + 20))
    buy(product)
    page.get_by_role("button", name="Yes, change it").click()
    expect(
        page.get_by_text("The stock moved since you looked. Nothing was changed.")
    ).to_be_visible()
    expect(page.locator(".before-after .total td")).to_have_text(str(before + 19))
    page.get_by_role("button", name="Yes, change it").click()

    expect(page.locator(".messagelist")).to_contain_text(f"{before - 1} → {before + 19}")
    expect(page.locator(".figure")).to_have_text(str(before + 19))
    movement = Movement.objects.latest("version")
    assert (movement.kind, movement.delta, movement.reason) == ("restock", 20, "a pallet came")


@pytest.mark.parametrize("java_script_enabled", [True, False], ids=["script", "no-script"])
def test_finds_who_changed_the_stock_on_a_day(
    shop: Shop, visitor: Visitor, java_script_enabled: bool
) -> None:
    page = visitor(java_script_enabled=True)
    product = sold_product(shop, come_as_operator(page))
    if not java_script_enabled:
        cookies = page.context.cookies()
        page = visitor(java_script_enabled=False)
        page.context.add_cookies([{**cookie} for cookie in cookies])  # type: ignore[typeddict-item]
    tuesday = datetime(2030, 1, 1, 12, tzinfo=UTC)
    Movement.objects.filter(kind="correction").update(created_at=tuesday)
    open_product(page, product)

    page.get_by_role("link", name="Ledger", exact=True).click()
    page.get_by_label("Kind").select_option("correction")
    page.get_by_label("From").fill("2030-01-01")
    page.get_by_label("To, with that day").fill("2030-01-01")
    page.get_by_role("button", name="Show").click()

    rows = page.locator(".ledger tbody tr")
    expect(rows).to_have_count(1)
    for text in ("ada@example.org", WHY, "-2", "2030-01-01 12:00:00"):
        expect(rows).to_contain_text(text)


def test_takes_the_ledger_along(shop: Shop, page: Page) -> None:
    product = sold_product(shop, come_as_operator(page))
    open_product(page, product, "ledger")

    shop.watch.allow("^failed GET .*/ledger.csv net::ERR_ABORTED$")  # it became a download
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()

    assert download.value.suggested_filename == f"ledger-{product.slug}.csv"
    assert len(download.value.path().read_text().splitlines()) == 1 + Movement.objects.count()


def test_finds_an_order_and_cancels_it(shop: Shop, page: Page) -> None:
    come_as_operator(page)
    product = shop.offer(units=10, price="149.00")
    order = buy(product, quantity=2, buyer="guest:6b1f6f0e-6d0c-5f4e-9d0a-6a6c0e0f6d11")
    buy(product)

    page.goto(reverse("admin:index"))
    page.get_by_role("link", name="Orders").first.click()
    page.get_by_label("Reference or buyer").fill("guest:6b1f")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name=str(order.pk)).click()
    page.get_by_role("link", name="Cancel this order…").click()
    page.get_by_label("Reason").fill("a call to the hotline")
    page.get_by_role("button", name="Cancel the order").click()

    expect(page.get_by_text("The order is cancelled; 2 units are on sale again.")).to_be_visible()
    expect(page.locator(".timeline")).to_contain_text("a call to the hotline")
    assert Order.objects.get(pk=order.pk).status == "cancelled"
    assert Stock.objects.get(product=product).available == 9
