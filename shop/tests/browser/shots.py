"""Pictures of every page in every state, for people to look at: see bin/screenshots."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from shop.tests.browser.conftest import Visitor
from shop.tests.browser.scenes import SCENES
from shop.tests.browser.shop import PHONE, Shop

DIRECTORY = Path(os.environ.get("SCREENSHOTS_TO", settings.BASE_DIR / "var" / "screenshots"))
SCREENS: dict[str, dict[str, Any]] = {
    "phone": PHONE,
    "desktop": {"viewport": {"width": 1440, "height": 900}},
}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("locale", ["en", "zh-CN"])
def test_take_pictures(shop: Shop, visitor: Visitor, locale: str, screen: str, scene: str) -> None:
    page = visitor(locale=locale, **SCREENS[screen])
    SCENES[scene](shop, page)
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for color_scheme in ("light", "dark"):
        page.emulate_media(color_scheme=color_scheme, reduced_motion="reduce")
        name = f"{scene}-{screen}-{color_scheme}-{locale[:2]}.png"
        page.screenshot(path=DIRECTORY / name, full_page=True)
