"""Nothing goes wrong in a page unseen."""

from __future__ import annotations

import pytest
from django.urls import reverse
from playwright.sync_api import Page

from shop.tests.browser.shop import Shop


@pytest.mark.parametrize(
    ("mischief", "fault"),
    [
        ("console.error('a bad sign')", r"^console .*a bad sign$"),
        ("setTimeout(() => { throw new Error('a bug') })", r"^exception a bug$"),
        ("fetch('/nothing/')", r"^404 GET .*/nothing/$"),
        ("fetch('/broken/').catch(() => {})", r"^failed GET .*/broken/ net::ERR_CONNECTION_RESET$"),
    ],
    ids=["console", "exception", "answer", "line"],
)
def test_notes_what_goes_wrong_unless_it_is_allowed(
    shop: Shop, page: Page, mischief: str, fault: str
) -> None:
    page.route("**/broken/", lambda route: route.abort("connectionreset"))
    page.goto(reverse("product-list"))
    assert shop.watch.faults() == []

    page.evaluate(f"() => {{ {mischief} }}")
    for _ in range(50):
        if shop.watch.faults():
            break
        page.wait_for_timeout(100)

    assert shop.watch.faults() != []
    shop.watch.allow(fault)
    assert shop.watch.faults() == []


def test_notes_what_the_policy_of_the_page_forbids(shop: Shop, page: Page) -> None:
    page.goto(reverse("product-list"))
    page.set_content("<script>document.title = 'inline'</script>")

    [fault] = shop.watch.faults()

    assert "Content Security Policy" in fault
    shop.watch.allow("Content Security Policy")
