"""Runs at the operator's desk: every figure and finding, and nothing to edit."""

from __future__ import annotations

from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from loadtests.models import LoadRun

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Answer

pytestmark = pytest.mark.django_db

RUNS = reverse("admin:loadtests_loadrun_changelist")
FINDING = {"code": "oversold", "text": "103 units sold of 100: 3 never existed <b>& more</b>."}
SPEED = 287.4


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Settings) -> None:
    """Nobody attacks these."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def made(**fields: Any) -> LoadRun:
    values: dict[str, Any] = {
        "strategy": "optimistic",
        "server": "wsgi",
        "database": "MariaDB 10.11.6",
        "units": 100,
        "buyers": 1000,
        "concurrency": 200,
        "opening_available": 100,
        "opening_version": 41,
    }
    return LoadRun.objects.create(**(values | fields))


def passed(**fields: Any) -> LoadRun:
    result = {
        "sold": 100,
        "refused": {"sold_out": 893},
        "busy": 7,
        "oversold": 0,
        "sales_per_s": SPEED,
        "latency_ms": {"sold": {"p50": 81.5}, "refused": {}},
        "attempts_mean": 1.62,
        "audit": {"ok": True, "findings": []},
        "environment": {"commit": "c0ffee1", "cores": 2, "workers": 4},
    }
    return made(
        status=LoadRun.Status.PASSED,
        sold=100,
        oversold=0,
        sales_per_s=SPEED,
        result=result,
        finished_at=timezone.now(),
        **fields,
    )


def failed() -> LoadRun:
    """A run as it is kept when its audit failed: without a speed."""
    result = {
        "sold": 103,
        "oversold": 3,
        "sales_per_s": None,
        "audit": {"ok": False, "findings": [FINDING]},
        "environment": {"commit": "c0ffee1"},
    }
    return made(
        status=LoadRun.Status.FAILED,
        strategy="unguarded",
        sold=103,
        oversold=3,
        result=result,
        finished_at=timezone.now(),
    )


def address(page: str, *args: Any) -> str:
    return reverse(f"admin:loadtests_loadrun_{page}", args=args)


def text_of(response: Answer) -> str:
    assert response.status_code == 200
    return unescape(response.content.decode())


def row(name: str, value: str) -> str:
    return f"<tr><th>{name}</th><td>{value}</td></tr>"


def test_the_list_shows_what_was_asked_and_what_came_of_it(admin_client: Client) -> None:
    passed()
    failed()

    shown = text_of(admin_client.get(RUNS))

    assert '<td class="field-units">100</td>' in shown
    assert '<td class="field-buyers">1000</td>' in shown
    assert '<td class="field-arrival">200 at a time</td>' in shown
    assert '<td class="field-sold">100</td>' in shown
    assert '<td class="field-oversold">0</td>' in shown
    assert '<td class="field-oversold">3</td>' in shown
    assert '<td class="field-sales_per_s">287.4</td>' in shown
    assert '<td class="field-sales_per_s">-</td>' in shown
    assert '<td class="field-status">audit passed</td>' in shown
    assert '<td class="field-status">audit failed</td>' in shown


def test_the_list_shows_how_arrivals_were_spread(admin_client: Client) -> None:
    passed(within_s=10.0)

    shown = text_of(admin_client.get(RUNS))

    assert '<td class="field-arrival">within 10 s</td>' in shown


def test_a_run_shows_every_figure_and_what_it_ran_on(admin_client: Client) -> None:
    run = passed()

    shown = text_of(admin_client.get(address("change", run.pk)))

    assert row("sold", "100") in shown
    assert row("refused sold_out", "893") in shown
    assert row("busy", "7") in shown
    assert row("sales_per_s", "287.4") in shown
    assert row("latency_ms sold p50", "81.5") in shown
    assert row("attempts_mean", "1.62") in shown
    assert row("commit", "c0ffee1") in shown
    assert row("cores", "2") in shown
    assert '<div class="readonly">41</div>' in shown, "the snapshot from before the load"
    assert "none: the books agree" in shown


def test_a_failed_run_shows_its_findings_and_no_speed(admin_client: Client) -> None:
    run = failed()

    page = admin_client.get(address("change", run.pk))

    shown = text_of(page)
    assert f"<li>{FINDING['code']}: {FINDING['text']}</li>" in shown
    assert row("sales_per_s", "–") in shown
    assert row("oversold", "3") in shown
    assert "the books agree" not in shown
    assert str(SPEED) not in shown


def test_escapes_what_a_finding_says(admin_client: Client) -> None:
    run = failed()

    raw = admin_client.get(address("change", run.pk)).content.decode()

    assert "never existed &lt;b&gt;&amp; more&lt;/b&gt;." in raw


@pytest.mark.parametrize("status", [LoadRun.Status.RUNNING, LoadRun.Status.ABORTED])
def test_a_run_without_a_result_claims_nothing(
    admin_client: Client, status: LoadRun.Status
) -> None:
    run = made(status=status)

    listed = text_of(admin_client.get(RUNS))
    shown = text_of(admin_client.get(address("change", run.pk)))

    assert '<td class="field-sales_per_s">-</td>' in listed
    assert '<td class="field-sold">-</td>' in listed
    assert f'<td class="field-status">{status.label}</td>' in listed
    assert "the books agree" not in shown
    assert '<div class="readonly">–</div>' in shown


def test_runs_are_filtered_by_what_happened(admin_client: Client) -> None:
    passed()
    run = failed()

    response = admin_client.get(RUNS, {"status__exact": "failed"})

    assert list(response.context["cl"].result_list) == [run]


def test_nothing_can_be_added_changed_or_deleted(admin_client: Client) -> None:
    run = failed()
    before = list(LoadRun.objects.values())
    sent = {"status": "passed", "sales_per_s": "999", "oversold": "0", "post": "yes"}

    assert admin_client.get(address("add")).status_code == 403
    assert admin_client.post(address("add"), sent).status_code == 403
    assert admin_client.post(address("change", run.pk), sent).status_code == 403
    assert admin_client.get(address("delete", run.pk)).status_code == 403
    assert admin_client.post(address("delete", run.pk), sent).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [run.pk], "post": "yes"}
    admin_client.post(RUNS, chosen)

    assert list(LoadRun.objects.values()) == before


def test_a_run_offers_no_field_and_no_button(admin_client: Client) -> None:
    run = passed()

    page = admin_client.get(address("change", run.pk))

    assert list(page.context["adminform"].form.fields) == []
    assert 'name="_save"' not in text_of(page)
    assert "delete_selected" not in text_of(admin_client.get(RUNS))


def test_staff_without_the_permission_see_no_runs(client: Client) -> None:
    client.force_login(User.objects.create_user("other", is_staff=True))
    passed()

    assert client.get(RUNS).status_code == 403
