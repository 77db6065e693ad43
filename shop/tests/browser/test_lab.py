"""An engineer at the desk: starts a comparison, watches it, reads its result; without a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.urls import reverse
from playwright.sync_api import Locator, Page, expect

from inventory.tests.servers import OwnRedis, database_url
from loadtests.models import Comparison, LoadRun
from shop.tests.browser import lab_scenes
from shop.tests.browser.shop import Shop, come_signed_in

PLAYED_WITHIN_MS = 120_000
PAINTED = """canvas => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return new Set(pixels).size > 2;
}"""
StartPlayer = Callable[[], None]


@pytest.fixture
def start_player(shop: Shop, own_redis: OwnRedis, tmp_path: Path) -> Iterator[StartPlayer]:
    """Start what plays the comparisons, beside the shop, as production does."""
    started: list[subprocess.Popen[bytes]] = []
    environment = {**os.environ, "DATABASE_URL": database_url(), "REDIS_URL": own_redis.address}

    def start() -> None:
        command = [sys.executable, "manage.py", "run_queued_loads"]
        with (tmp_path / "player.log").open("wb") as log:
            started.append(
                subprocess.Popen(
                    command, cwd=settings.BASE_DIR, env=environment, stdout=log, stderr=log
                )
            )

    yield start
    for player in started:
        player.terminate()
        player.wait(30)


def come_as_engineer(page: Page) -> None:
    """Sign in as somebody who may start runs and look at them, and nothing else."""
    page.goto(reverse("sign-in"))
    user = come_signed_in(page, lab_scenes.ENGINEER)
    User.objects.filter(pk=user.pk).update(is_staff=True)
    codes = ("start_run", "view_comparison", "view_loadrun")
    user.user_permissions.set(Permission.objects.filter(codename__in=codes))
    page.goto(reverse("admin:index"))


def ask(page: Page, *strategies: str, **numbers: object) -> None:
    """Go from the first page of the desk to the form, fill it in and send it."""
    page.locator("#content").get_by_role("link", name="Load runs", exact=True).click()
    page.get_by_role("link", name="Start load runs").click()
    for strategy in strategies:
        page.locator(f'input[value="{strategy}"]').check()
    for name, value in numbers.items():
        page.locator(f'input[name="{name}"]').fill(str(value))
    page.get_by_role("button", name="Start").click()


def story(page: Page) -> Locator:
    """The sentence that says how it stands."""
    return page.locator("#progress .story").first


def test_an_engineer_starts_a_comparison_watches_it_and_reads_its_result(
    shop: Shop, page: Page, start_player: StartPlayer
) -> None:
    come_as_engineer(page)
    ask(
        page, "optimistic", "conditional_update", units=30, buyers=30, concurrency=10, rounds=1
    )  # fmt: skip
    expect(story(page)).to_contain_text("No worker is running")

    page.evaluate("window.sameDocument = true")
    start_player()
    expect(story(page)).to_contain_text("running", timeout=PLAYED_WITHIN_MS)
    expect(page.locator("progress")).to_be_visible()
    expect(story(page)).to_contain_text("Every audit was clean.", timeout=PLAYED_WITHIN_MS)

    assert page.evaluate("window.sameDocument"), "nobody had to load the page again"
    expect(page.get_by_text("One round: differences may be chance.")).to_be_visible()
    expect(page.locator("canvas")).to_have_count(2)
    expect_drawn_and_told(page)
    runs = LoadRun.objects.order_by("pk")
    assert table_of(page.locator("figure").first) == [
        [run.strategy, f"{run.sales_per_s:g}"]
        for run in runs.order_by("-strategy")  # in the registry's order: optimistic first
    ]
    page.locator(".figures a").first.click()
    expect(page.locator(".story")).to_contain_text("Sold 30 of 30 units to 30 buyers")
    expect_drawn_and_told(page)
    expect_the_figures_of_the_file(shop, page, runs[0])
    assert not page.locator("[hx-trigger]").count()


def test_an_engineer_cancels_a_comparison(
    shop: Shop, page: Page, start_player: StartPlayer
) -> None:
    come_as_engineer(page)
    start_player()
    ask(page, "optimistic", units=30, buyers=30, within_s=300, rounds=1)
    expect(story(page)).to_contain_text("Round 1 of 1: optimistic", timeout=PLAYED_WITHIN_MS)

    page.get_by_role("button", name="Cancel").click()

    expect(page.locator(".messagelist")).to_contain_text("being cancelled")
    expect(story(page)).to_contain_text("cancelled", timeout=PLAYED_WITHIN_MS)
    assert Comparison.objects.get().status == "cancelled"
    assert LoadRun.objects.get().status == "aborted"


@pytest.mark.parametrize("scene", ["run", "runs_compared", "comparison_done"])
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_charts_are_drawn_beside_the_same_numbers(
    shop: Shop, page: Page, scene: str, color_scheme: Any
) -> None:
    page.emulate_media(color_scheme=color_scheme)
    getattr(lab_scenes, scene)(shop, page)
    expect_drawn_and_told(page)


def expect_drawn_and_told(page: Page) -> None:
    """Each canvas is painted, says its sentence, and has a table that equals its data."""
    figures = page.locator("figure.chart").all()
    assert figures
    for figure in figures:
        canvas = figure.locator("canvas")
        canvas.scroll_into_view_if_needed()
        assert canvas.evaluate(PAINTED)
        assert len(canvas.get_attribute("aria-label") or "") > 20
        data = json.loads(figure.locator("script").text_content() or "")
        rows = table_of(figure)
        assert [row[0] for row in rows] == [str(label) for label in data["labels"]]
        for place, series in enumerate(data["series"], start=1):
            told = [row[place].split(" ")[0] for row in rows]
            assert told == ["–" if v is None else f"{v:g}" for v in series["values"]]


def table_of(figure: Locator) -> list[list[str]]:
    """The numbers under a chart."""
    figure.locator("details").evaluate("details => { details.open = true; }")
    return [row.locator("th, td").all_inner_texts() for row in figure.locator("tbody tr").all()]


def expect_the_figures_of_the_file(shop: Shop, page: Page, run: LoadRun) -> None:
    """What is shown, what is downloaded and what was kept are one."""
    shop.watch.allow("^failed GET .*/figures.json net::ERR_ABORTED")  # a file leaves the page
    with page.expect_download() as download:
        page.get_by_role("link", name="Every figure (JSON)").click()
    kept = json.loads(Path(download.value.path()).read_text())
    assert kept == run.result
    latency = table_of(page.locator("figure#latency"))
    assert latency[0][1] == f"{kept['latency_ms']['sold']['p50']:g}"
    shown = page.locator(".raw pre").text_content() or ""
    assert json.loads(shown) == kept
