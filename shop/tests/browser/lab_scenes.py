"""The load lab at the desk: runs, comparisons of them, and how they are asked for."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.urls import reverse
from playwright.sync_api import Page, expect

from inventory.clock import DatabaseNow, MinutesFromNow
from loadtests.models import Comparison
from loadtests.tests.made import asked, failed, made, passed
from shop.tests.browser.shop import Shop, come_signed_in

ENGINEER = "grace@example.org"
SPEEDS = {
    "optimistic": (256.4, 286.1, 349.0),
    "pessimistic": (352.2, 376.0, 434.3),
    "conditional_update": (345.1, 390.2, 477.4),
    "group_commit": (720.9, 831.1, 1033.5),
}
CROWDS = {1: 0.4, 10: 0.9, 100: 1.0, 1000: 0.95}
OVER_TIME = {
    "slice_s": 0.1,
    "sold": [3, 22, 41, 38, 40, 36, 42, 39, 37, 41, 40, 38, 29, 4, 0, 0],
    "refused": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 60, 71, 30],
    "busy": [0] * 16,
}


def runs(shop: Shop, page: Page) -> None:
    """The list of runs: one failed, one was interrupted."""
    several_runs()
    failed()
    made(status="aborted")
    come_to(page, reverse("admin:loadtests_loadrun_changelist"))


def run(shop: Shop, page: Page) -> None:
    """A run whose audit passed."""
    kept = passed(ceiling_per_s=2196.0, result={"over_time": OVER_TIME})
    come_to(page, reverse("admin:loadtests_loadrun_change", args=[kept.pk]))
    expect(page.locator("canvas")).to_have_count(3)


def run_failed(shop: Shop, page: Page) -> None:
    """A run whose audit failed."""
    come_to(page, reverse("admin:loadtests_loadrun_change", args=[failed().pk]))


def runs_compared(shop: Shop, page: Page) -> None:
    """A selection of runs beside each other, one of which cannot be trusted."""
    several_runs()
    failed(concurrency=100, strategy="stored_procedure")
    come_to(page, reverse("admin:loadtests_loadrun_changelist"))
    page.locator("#action-toggle").check()
    page.locator('select[name="action"]').select_option("compare_runs")
    page.locator('.actions button[type="submit"]').click()
    expect(page.locator("canvas").first).to_be_visible()


def comparisons(shop: Shop, page: Page) -> None:
    """What was asked for so far, in every state."""
    for status in Comparison.Status:
        asked(status=status, log="It went wrong.", beat_at=MinutesFromNow(5))
    come_to(page, reverse("admin:loadtests_comparison_changelist"))


def comparison_asked(shop: Shop, page: Page) -> None:
    """The form that asks for runs."""
    come_to(page, reverse("admin:loadtests_comparison_add"))


def comparison_refused(shop: Shop, page: Page) -> None:
    """The answer to too much of it."""
    comparison_asked(shop, page)
    page.locator('input[name="strategies"]').first.check()
    page.locator('input[name="buyers"]').fill("5000")
    page.locator('input[name="concurrency"]').fill("100")
    page.locator('input[name="rounds"]').fill("10")
    for box in page.locator('input[name="strategies"]').all():
        box.check()
    page.locator('.submit-row input[type="submit"]').click()
    expect(page.locator(".errornote")).to_be_visible()


def comparison_waiting(shop: Shop, page: Page) -> None:
    """A comparison that nobody plays yet."""
    come_to(page, page_of(asked()))


def comparison_running(shop: Shop, page: Page) -> None:
    """A comparison that is going on."""
    comparison = asked(
        status="running", step="pessimistic", done=2300, of=4000, beat_at=MinutesFromNow(5)
    )
    passed(comparison=comparison)
    passed(comparison=comparison, strategy="pessimistic", speed=376.0)
    made(comparison=comparison, strategy="pessimistic", round=2)
    come_to(page, page_of(comparison))
    expect(page.locator("progress")).to_be_visible()


def comparison_done(shop: Shop, page: Page) -> None:
    """A comparison and its result."""
    comparison = asked(
        status="done",
        strategies=[*SPEEDS, "redis_lock", "unguarded"],
        rounds=3,
        unavailable={"redis_lock": "–"},
        finished_at=DatabaseNow(),
    )
    several_runs(comparison=comparison, crowds=(200,))
    failed(comparison=comparison, strategy="unguarded", units=100)
    come_to(page, page_of(comparison))
    expect(page.locator("canvas").first).to_be_visible()


def comparison_failed(shop: Shop, page: Page) -> None:
    """A comparison that could not be played, and why."""
    log = "502: 10\n── server.log\n[1] 502"
    come_to(page, page_of(asked(status="failed", log=log)))


def comparison_lost(shop: Shop, page: Page) -> None:
    """A comparison whose player was killed."""
    comparison = asked(status="running", playing=True, beat_at=MinutesFromNow(-1))
    made(comparison=comparison)
    come_to(page, page_of(comparison))


def several_runs(crowds: tuple[int, ...] = tuple(CROWDS), **fields: Any) -> None:
    """Keep three rounds of several strategies, with several numbers of buyers at a time."""
    for crowd in crowds:
        for number in range(3):
            for name, speeds in SPEEDS.items():
                speed = round(speeds[number] * CROWDS.get(crowd, 1), 1)
                more = {"round": number + 1, "ceiling_per_s": 2196.0, "concurrency": crowd}
                passed(strategy=name, speed=speed, **(more | fields))


def page_of(comparison: Comparison) -> str:
    return reverse("admin:loadtests_comparison_change", args=[comparison.pk])


def come_to(page: Page, address: str) -> User:
    """Open a page of the desk as somebody who may do everything."""
    page.goto(reverse("sign-in"))
    user = come_signed_in(page, ENGINEER)
    User.objects.filter(pk=user.pk).update(is_staff=True, is_superuser=True)
    page.goto(address)
    return user


ALL = (
    runs,
    run,
    run_failed,
    runs_compared,
    comparisons,
    comparison_asked,
    comparison_refused,
    comparison_waiting,
    comparison_running,
    comparison_done,
    comparison_failed,
    comparison_lost,
)
