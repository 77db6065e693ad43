"""What the first view costs a visitor with nothing in the cache."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, Request

from shop.tests.browser.scenes import SCENES
from shop.tests.browser.shop import Shop

PRODUCT_PAGE_LIMIT_BYTES = 60 * 1024
NOBODY_SEES = 0.001
"""The full stop behind a moment moves when that is told in the visitor's own zone."""


def test_the_product_page_is_light(shop: Shop, page: Page) -> None:
    """All that comes over the line, as it comes: compressed where the server compresses."""
    requests: list[Request] = []
    page.context.on("requestfinished", lambda request: requests.append(request))

    SCENES["product_on_sale"](shop, page)
    page.wait_for_timeout(500)

    weights = {r.url.removeprefix(shop.address): r.sizes()["responseBodySize"] for r in requests}
    assert len(weights) >= 3, "a page, its style and its icon"
    assert sum(weights.values()) <= PRODUCT_PAGE_LIMIT_BYTES, weights


def test_the_style_comes_compressed(shop: Shop, page: Page) -> None:
    with page.expect_response("**/*.css") as style:
        page.goto("/")

    assert style.value.header_value("content-encoding") in ("br", "gzip")


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scene", ["front_page", "product_on_sale", "product_opening", "order"])
def test_nothing_shifts_while_a_page_is_drawn(
    shop: Shop, page: Page, scene: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    SCENES[scene](shop, page)
    page.wait_for_timeout(500)
    shifts = """() => new Promise(resolve => {
        new PerformanceObserver(list => resolve(list.getEntries().map(entry => entry.value)))
            .observe({type: "layout-shift", buffered: true});
        setTimeout(() => resolve([]), 200);
    })"""

    assert sum(page.evaluate(shifts)) < NOBODY_SEES
