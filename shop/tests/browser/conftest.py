"""
Browsers that drive the shop: real processes, a real database, the system's Chromium.

`shop` is the shop being served, `page` a visitor's page in the language `locale`, and
`visitor(...)` makes more of them, each with a profile (cookies, cache) of its own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from pytest_django import Settings

from conftest import MakeProduct
from inventory.tests.conftest import StartConsumer, start_consumer
from inventory.tests.servers import OwnRedis, redis_program
from shop.tests.browser.content_types import keep_content_types
from shop.tests.browser.server import Server, serving
from shop.tests.browser.shop import Shop
from shop.tests.browser.watching import Watch

__all__ = ["StartConsumer", "start_consumer"]

HERE = Path(__file__).parent
WAIT_MS = 15_000
Visitor = Callable[..., Page]
NewContext = Callable[..., BrowserContext]


def chromium() -> str | None:
    """Find the system's Chromium."""
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    return next(filter(None, found), None)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run on MariaDB only, and last: a driven browser leaves an event loop in this thread."""
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.browser)
        if item.path.name.startswith("test_"):
            item.add_marker(pytest.mark.mariadb)
    items[:] = [item for item in items if HERE not in item.path.parents] + ours


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip where there is no browser, out loud; in CI, fail instead."""
    lacking = [
        name
        for name, found in {"Chromium": chromium(), "a Redis server": redis_program()}.items()
        if found is None
    ]
    if lacking and os.environ.get("CI") == "true":
        pytest.fail(f"CI must have {' and '.join(lacking)}")
    if lacking:
        pytest.skip(f"needs {' and '.join(lacking)}: see bin/bootstrap --dev")


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Drive the system's Chromium; as root it runs without its sandbox."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    return {**browser_type_launch_args, "executable_path": chromium(), "args": arguments}


@pytest.fixture(scope="session")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    """A Redis of the browsers' own, which may be wiped."""
    program = redis_program()
    assert program is not None
    redis = OwnRedis(program, tmp_path_factory.mktemp("redis"))
    yield redis
    redis.kill()


@pytest.fixture(scope="session")
def server(
    django_db_setup: None, own_redis: OwnRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Serve the shop to all tests."""
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"  # Playwright's event loop runs in this thread
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(log=log, redis=own_redis.address) as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh_counters(own_redis: OwnRedis, settings: Settings) -> None:
    """Use the browsers' own Redis, empty: no counter, limit or queue of the test before."""
    own_redis.client.flushall()
    locks = {**settings.CACHES["locks"], "LOCATION": f"{own_redis.address}/1"}
    settings.CACHES = {**settings.CACHES, "locks": locks}


@pytest.fixture
def shop(
    transactional_db: None, server: Server, own_redis: OwnRedis, make_product: MakeProduct
) -> Iterator[Shop]:
    """The shop, without products and mails; fails the test if the server met an exception."""
    shutil.rmtree(server.mails, ignore_errors=True)
    keep_content_types()
    with ExitStack() as until_the_end:
        yield Shop(server.address, server.mails, own_redis, make_product, Watch(), until_the_end)
    assert server.complaints() == ""


@pytest.fixture
def visitor(new_context: NewContext, shop: Shop) -> Iterator[Visitor]:
    """
    Make visitors, in English unless said otherwise; options are those of a browser context.

    Fails the test if anything went wrong in any of their pages, unless the test allowed it.
    """
    contexts: list[BrowserContext] = []

    def make(*, locale: str = "en", **options: Any) -> Page:
        context = new_context(locale=locale, base_url=shop.address, **options)
        context.set_default_timeout(WAIT_MS)
        expect.set_options(timeout=WAIT_MS)
        shop.watch.over(context)
        contexts.append(context)
        return context.new_page()

    yield make
    faults = shop.watch.faults()
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture
def locale() -> str:
    """The language that `page` asks for; parametrize it to change it."""
    return "en"


@pytest.fixture
def page(visitor: Visitor, locale: str) -> Page:
    """The page of one visitor."""
    return visitor(locale=locale)
