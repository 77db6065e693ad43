"""Every page in every state, for everybody: axe, narrow screens, little motion, two languages."""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.urls import reverse
from playwright.sync_api import Page

from inventory.strategies import STRATEGIES
from shop.tests.browser.conftest import Visitor
from shop.tests.browser.scenes import SCENES
from shop.tests.browser.shop import Shop, visit

RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
AXE = Axe()
AXE_OPTIONS = {
    "runOnly": {"type": "tag", "values": RULES},
    "resultTypes": ["violations"],
    "preload": False,  # axe would copy the admin's imported styles inline, which the policy forbids
}
LANGUAGES = pytest.mark.parametrize("locale", ["en", "zh-CN"])
NARROWEST_PX = 320
Colours = Literal["light", "dark"]
LIGHT_AND_DARK: list[Colours] = ["light", "dark"]
MOVING = """() => [...document.querySelectorAll("*")].flatMap(element =>
    [null, "::before", "::after"].flatMap(pseudo => {
        const style = getComputedStyle(element, pseudo);
        const times = `${style.transitionDuration}, ${style.animationDuration}`;
        const longest = Math.max(...times.split(", ").map(parseFloat));
        const smooth = style.scrollBehavior === "smooth";
        return longest > 0.01 || smooth ? [element.outerHTML.slice(0, 80)] : [];
    }))"""


EVERY_SCENE = pytest.mark.parametrize("scene", SCENES)


@EVERY_SCENE
@LANGUAGES
def test_a_page_is_for_everybody(shop: Shop, page: Page, scene: str, locale: str) -> None:
    """One visit, seen in four ways: light, dark, on a narrow phone and with little motion."""
    SCENES[scene](shop, page)
    assert shop.watch.faults() == []
    colours = LIGHT_AND_DARK if locale == "en" else LIGHT_AND_DARK[:1]  # which no language changes

    assert [*axe_findings(page, colours), *too_wide(page), *moving(page)] == []


def test_the_eyes_of_these_tests_are_open(page: Page) -> None:
    """Each of them sees what it is there for."""
    page.set_content(
        '<p style="width: 400px; transition: color 1s; color: #777; background: #888">Grey</p>'
    )

    [light, dark] = axe_findings(page, LIGHT_AND_DARK)

    assert "color-contrast" in light
    assert "color-contrast" in dark
    assert too_wide(page) == ["408 px wide at 320 px"]
    assert len(moving(page)) == 1
    assert english_words(page) == ["Grey"]


def test_a_long_word_is_not_wider_than_a_narrow_phone(shop: Shop, visitor: Visitor) -> None:
    page = visitor()
    word = "Donaudampfschifffahrtsgesellschaftskapitän"
    product = shop.offer(name=word, description=word + word)
    for address in (reverse("product", args=[product.slug]), reverse("product-list")):
        page.goto(address)
        assert too_wide(page) == []


@EVERY_SCENE
def test_a_chinese_page_says_that_it_is_and_has_no_english_in_it(
    shop: Shop, visitor: Visitor, scene: str
) -> None:
    page = visitor(locale="zh-CN")
    SCENES[scene](shop, page)

    assert page.locator("html").get_attribute("lang") == "zh-hans"
    assert english_words(page) == []


def test_the_language_can_be_changed_and_stays_so(shop: Shop, page: Page) -> None:
    product = shop.offer()
    page.goto("/")

    page.get_by_role("button", name="简体中文").click()
    assert page.locator("html").get_attribute("lang") == "zh-hans"
    visit(page, product)

    assert page.locator("html").get_attribute("lang") == "zh-hans"


def axe_findings(page: Page, colours: list[Colours]) -> list[str]:
    """What axe finds, in the light or in the dark."""
    findings = []
    for color_scheme in colours:
        page.emulate_media(color_scheme=color_scheme, reduced_motion="reduce")  # no colours between
        result = AXE.run(page, options=AXE_OPTIONS)
        if result.violations_count:
            findings.append(f"{color_scheme}: {result.generate_report()}")
    return findings


def too_wide(page: Page) -> list[str]:
    """By how much the page is wider than the narrowest phone, if it is."""
    page.set_viewport_size({"width": NARROWEST_PX, "height": 568})
    width = page.evaluate("document.documentElement.scrollWidth")
    return [] if width == NARROWEST_PX else [f"{width} px wide at {NARROWEST_PX} px"]


def moving(page: Page) -> list[str]:
    """The elements that move although their visitor asked for little motion."""
    page.emulate_media(reduced_motion="reduce")
    elements: list[str] = page.evaluate(MOVING)
    return [f"moves: {element}" for element in elements]


def english_words(page: Page) -> list[str]:
    """Words that people read or hear, but for names, units, code and what was said in English."""
    page.evaluate("document.querySelectorAll('code, pre, [lang=en]').forEach(e => e.hidden = true)")
    heard = """() => [document.title, document.body.innerText, ...[
        ...document.querySelectorAll("[aria-label],[alt],[title],[placeholder]")
    ].flatMap(e => ["aria-label", "alt", "title", "placeholder"].map(a => e.getAttribute(a)))]"""
    words: list[Any] = page.evaluate(heard)
    text = "\n".join(word for word in words if word)
    products = "Brass lamp|Desk clock|Enamel kettle|Oak stool"
    given = r"[\w.+-]+@[\w.-]+|guest:[0-9a-f-]*|user:\d+|[0-9a-f-]{32,36}|\b[0-9a-f]{8}\b"
    given += r"|for the test|\b(test|bank)\b|Version \d+ is followed by \d+"
    commands = r"manage\.py|commit_purchases|run_queued_loads"
    kinds = r"JSON|CSV|JPEG|PNG|WebP|MB|\bID\b"
    labels = "|".join(re.escape(strategy.label) for strategy in STRATEGIES.values())
    lab = rf"{'|'.join(STRATEGIES)}|{labels}|wsgi|asgi|locust|MariaDB|InnoDB|\b(ms|ada|oversold)\b"
    lab += rf"|Redis|{commands}|{kinds}"
    operators = rf"Spun brass.*underneath\.|{products}|Last Unit|UTC|English|{given}|{lab}"
    return re.findall(r"[A-Za-z]{2,}", re.sub(operators, "", text))
