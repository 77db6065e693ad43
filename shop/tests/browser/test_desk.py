"""The desk in a browser: figures that move by themselves, roles, and the second factor."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.urls import reverse
from django_otp.plugins.otp_totp.models import TOTPDevice
from playwright.sync_api import Page, Route, expect

from inventory.tests.servers import OwnRedis
from shop.roles import LAB, OPERATOR, ROLES, VIEWER
from shop.tests.browser.conftest import Visitor
from shop.tests.browser.desk_scenes import come_as, desk, take
from shop.tests.browser.server import Server, serving
from shop.tests.browser.shop import Shop, buy_button, expect_order, submit_unscripted, visit
from shop.tests.browser.test_accessibility import LIGHT_AND_DARK, axe_findings, too_wide
from shop.tests.test_second_factor import code_of

PASSWORD = "correct horse battery staple"
FIGURES = "**/admin/figures/"


def mark(page: Page) -> None:
    """Leave a mark that a reload would wipe away."""
    page.evaluate("window.sameAsBefore = true")


def expect_no_reload(page: Page) -> None:
    assert page.evaluate("window.sameAsBefore") is True


def test_a_sale_changes_the_figures_without_a_reload(shop: Shop, visitor: Visitor) -> None:
    product = shop.offer(units=12)
    operator, shopper = visitor(), visitor()
    come_as(operator, VIEWER)
    line = operator.locator(f'[data-product="{product.slug}"]')
    expect(line.locator("[data-left]")).to_have_text("12 of 12")
    mark(operator)

    visit(shopper, product)
    buy_button(shopper).click()
    expect_order(shopper)

    expect(line.locator("[data-left]")).to_have_text("11 of 12")
    expect(line.locator("[data-sold]")).to_have_text("1")
    assert line.locator("meter").get_attribute("value") == "11"
    expect_no_reload(operator)


def test_a_refusal_is_counted_and_selling_out_is_announced(shop: Shop, visitor: Visitor) -> None:
    product = shop.offer(units=12)
    operator, shopper = visitor(), visitor()
    come_as(operator, VIEWER)
    visit(shopper, product)
    take(product.pk, 12)
    shop.watch.allow("^409 POST .*/buy/$")

    submit_unscripted(shopper.locator('form[action$="/buy/"]'))

    line = operator.locator(f'[data-product="{product.slug}"]')
    expect(line.locator("[data-refused]")).to_contain_text("sold out: 1")
    expect(operator.locator(".alerts")).to_contain_text("Sold out")
    expect(operator.locator("#alerts-said")).to_have_text("1 alert")


def test_a_shop_that_fails_leaves_the_last_figures_and_says_how_old_they_are(
    shop: Shop, page: Page
) -> None:
    product = shop.offer(units=12)
    come_as(page, VIEWER)
    mark(page)
    shop.watch.allow("^503 GET .*/figures/$", "Response Status Error Code 503")
    page.route(FIGURES, unavailable)

    expect(page.locator("#figures-age")).to_contain_text(re.compile(r"\d+ s old"), timeout=30_000)

    left = page.locator(f'[data-product="{product.slug}"] [data-left]')
    expect(left).to_have_text("12 of 12")
    take(product.pk, 3)
    page.unroute(FIGURES)
    expect(left).to_have_text("9 of 12")
    expect(page.locator("#figures-age")).to_be_hidden()
    expect_no_reload(page)


def unavailable(route: Route) -> None:
    route.fulfill(status=503, body="nothing works")


def test_a_page_that_nobody_looks_at_asks_for_nothing(shop: Shop, page: Page) -> None:
    product = shop.offer(units=12)
    come_as(page, VIEWER)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    look_away = """hidden => {
        Object.defineProperty(document, "hidden", {configurable: true, get: () => hidden});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""

    page.evaluate(look_away, True)
    page.wait_for_timeout(6000)
    assert asked == []

    take(product.pk, 1)
    page.evaluate(look_away, False)
    left = page.locator(f'[data-product="{product.slug}"] [data-left]')
    expect(left).to_have_text("11 of 12", timeout=2000)


def test_who_is_signed_out_meanwhile_comes_to_the_door(shop: Shop, page: Page) -> None:
    shop.offer()
    come_as(page, VIEWER)

    page.context.clear_cookies()

    expect(page).to_have_url(re.compile(r"/admin/login/\?next=/admin/$"))


def test_the_keyboard_stays_where_it_is_when_the_figures_change(shop: Shop, page: Page) -> None:
    product = shop.offer(units=12)
    come_as(page, VIEWER)
    link = page.locator(f"#product-{product.pk}")
    link.focus()

    take(product.pk, 1)

    expect(page.locator("[data-left]")).to_have_text("11 of 12")
    expect(link).to_be_focused()


@pytest.mark.parametrize("role", ROLES)
def test_each_role_sees_how_the_sale_stands_and_is_offered_what_it_may(
    shop: Shop, page: Page, role: str
) -> None:
    product = shop.offer(units=12)
    come_as(page, role)

    page.locator(f"#product-{product.pk}").click()

    page.wait_for_url(re.compile(rf"/product/{product.pk}/change/$"), wait_until="load")
    expect(page.locator('[name="_save"]')).to_have_count(1 if role == OPERATOR else 0)
    assert role in (VIEWER, OPERATOR, LAB)


def test_the_meters_say_what_the_words_say(shop: Shop, page: Page) -> None:
    desk(shop, page)

    for cell in page.locator("td.left").all():
        meter = cell.locator("meter")
        said = f"{meter.get_attribute('value')} of {meter.get_attribute('max')}"
        expect(cell.locator("[data-left]")).to_have_text(said)


@pytest.fixture
def guarded(
    shop: Shop, own_redis: OwnRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """A shop whose desk asks for a code too."""
    monkeypatch.setenv("STAFF_SECOND_FACTOR", "1")
    with serving(log=tmp_path / "log", redis=own_redis.address) as server:
        yield server


def test_the_desk_is_entered_with_password_and_code_and_once_with_each_code(
    guarded: Server, visitor: Visitor
) -> None:
    User.objects.create_superuser("operator", password=PASSWORD)
    call_command("add_second_factor", "operator", stdout=StringIO())
    code = code_of(TOTPDevice.objects.get())
    page, other = visitor(), visitor()
    door = f"{guarded.address}{reverse('admin:login')}"
    page.goto(door)
    assert [*axe_findings(page, LIGHT_AND_DARK), *too_wide(page)] == []

    enter(page, code)
    expect(page).to_have_url(re.compile(r"/admin/$"))
    expect(page.locator("#figures")).to_be_visible()

    other.goto(door)
    enter(other, code)
    expect(other.get_by_role("alert")).to_contain_text("used before")
    assert [*axe_findings(other, LIGHT_AND_DARK), *too_wide(other)] == []


def enter(page: Page, code: str) -> None:
    page.get_by_label("Username").fill("operator")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Code").fill(code)
    page.get_by_role("button", name="Log in").click()
