"""Runs at the operator's desk: every figure and finding, and nothing to edit."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from inventory.clock import MinutesFromNow
from loadtests.models import Comparison, LoadRun
from loadtests.tests.made import FINDING, RESULT, asked, failed, made, passed

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Answer

pytestmark = pytest.mark.django_db

RUNS = reverse("admin:loadtests_loadrun_changelist")
COMPARE = reverse("admin:loadtests_compare")
MOST_QUERIES = 12


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Settings) -> None:
    """Nobody attacks these."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def address(page: str, *args: Any) -> str:
    return reverse(f"admin:loadtests_loadrun_{page}", args=args)


def text_of(response: Answer) -> str:
    assert response.status_code == 200
    return unescape(response.content.decode())


def page_of(client: Client, run: LoadRun) -> str:
    return text_of(client.get(address("change", run.pk)))


def row(name: str, value: str) -> str:
    cells = f'<th scope="row"><code>{name}</code></th><td><code>{value}</code></td>'
    return f"<tr>{cells}</tr>"


def cell(name: str, value: str) -> str:
    return f'<td class="field-{name}">{value}</td>'


# The list


def test_the_list_shows_what_was_asked_and_what_came_of_it(admin_client: Client) -> None:
    passed(ceiling_per_s=1000)

    shown = text_of(admin_client.get(RUNS))

    assert cell("load", "100 units, 1000 buyers 200 at a time · wsgi · MariaDB 10.11.6") in shown
    assert cell("sold", "100") in shown
    assert cell("oversold", "0") in shown
    assert cell("speed", "287.4") in shown
    assert cell("share", "29%") in shown
    assert '<span class="verdict passed">✓ audit passed</span>' in shown


def test_a_failed_audit_is_said_in_the_list_without_a_speed(admin_client: Client) -> None:
    """Even if some older version had kept one."""
    failed(sales_per_s=6543.21, ceiling_per_s=1000)

    shown = text_of(admin_client.get(RUNS))

    assert '<span class="verdict failed">✗ audit failed</span>' in shown
    assert cell("speed", "–") in shown
    assert cell("share", "–") in shown
    assert cell("oversold", "3") in shown
    assert "6543" not in shown


def test_the_list_says_what_was_only_accepted(admin_client: Client) -> None:
    passed(strategy="redis_counter", result={"accepted": 100})
    assert cell("speed", "287.4 accepted") in text_of(admin_client.get(RUNS))


def test_the_list_shows_how_arrivals_were_spread(admin_client: Client) -> None:
    passed(within_s=10.0)
    assert "1000 buyers within 10 s" in text_of(admin_client.get(RUNS))


@pytest.mark.parametrize(
    "wanted",
    [
        {"status__exact": "failed"},
        {"strategy": "pessimistic"},
        {"server": "asgi"},
        {"database": "SQLite 3.45"},
    ],
)
def test_runs_are_filtered_by_what_happened(admin_client: Client, wanted: dict[str, str]) -> None:
    passed()
    run = failed(server="asgi", database="SQLite 3.45")

    response = admin_client.get(RUNS, wanted)

    assert list(response.context["cl"].result_list) == [run]


def test_the_list_asks_little(
    admin_client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(60):
        passed()
    with django_assert_max_num_queries(MOST_QUERIES):
        admin_client.get(RUNS)


# One run


def test_a_run_shows_every_figure_and_what_it_ran_on(admin_client: Client) -> None:
    run = passed(ceiling_per_s=1000)

    shown = page_of(admin_client, run)

    assert "Sold 100 of 100 units to 1000 buyers, 287.4 a second." in shown
    assert "<dd>29%</dd>" in shown
    assert row("tries a sale", "1.62") in shown
    assert row("queue", "3.1") in shown
    assert row("Innodb_row_lock_waits", "17") in shown
    assert row("worker_rss_mb", "61.2, 61.9") in shown
    assert row("commit", "c0ffee1") in shown
    assert row("database_settings a", "1") in shown
    assert "100 units at version 41" in shown, "the snapshot from before the load"
    assert '"attempts_mean": 1.62' in shown


def test_a_run_is_drawn_beside_the_same_numbers(admin_client: Client) -> None:
    response = admin_client.get(address("change", passed().pk))

    charts = {chart.key: chart for chart in response.context["charts"]}

    assert charts["over-time"].rows() == [
        ["0.0", "400", "0", "0"],
        ["0.1", "350", "0", "0"],
        ["0.2", "250", "8930", "70"],
        ["0.3", "0", "0", "0"],
    ]
    assert charts["latency"].rows()[0] == ["p50", "81.5", "41.5"]
    assert charts["refusals"].rows() == [["sold out", "893"], ["busy", "7"]]
    assert all(chart.summary for chart in charts.values())
    for chart in charts.values():
        assert f'data-chart="{chart.key}-data"' in text_of(response)


def test_a_run_of_before_there_was_a_series_is_shown_without_it(admin_client: Client) -> None:
    run = passed()
    LoadRun.objects.update(result={k: v for k, v in RESULT.items() if k != "over_time"})

    response = admin_client.get(address("change", run.pk))

    assert [chart.key for chart in response.context["charts"]] == ["latency", "refusals"]


def test_a_failed_run_says_why_and_shows_no_speed(admin_client: Client) -> None:
    run = failed(sales_per_s=6543.21, ceiling_per_s=1000)

    shown = page_of(admin_client, run)
    story = shown.split('<p class="story failed">')[1].split("</p>")[0]

    assert "✗ audit failed" in story
    assert f'So the run has no speed: <span lang="en">{FINDING["text"]}</span>' in story
    assert (
        f'<code>{FINDING["code"]}</code></strong>: <span lang="en">{FINDING["text"]}</span>'
        in shown
    )
    assert "6543" not in shown
    assert "over-time" not in shown
    assert "latency-data" not in shown
    assert "Where the time went" not in shown
    assert "audit found nothing" not in shown


def test_escapes_what_a_finding_says(admin_client: Client) -> None:
    raw = admin_client.get(address("change", failed().pk)).content.decode()
    assert "never existed &lt;b&gt;&amp; more&lt;/b&gt;." in raw


@pytest.mark.parametrize("status", [LoadRun.Status.RUNNING, LoadRun.Status.ABORTED])
def test_a_run_without_a_result_claims_nothing(
    admin_client: Client, status: LoadRun.Status
) -> None:
    run = made(status=status)

    listed = text_of(admin_client.get(RUNS))
    shown = page_of(admin_client, run)

    assert cell("speed", "–") in listed
    assert f"verdict {status}" in listed
    assert "audit found nothing" not in shown


def test_a_run_whose_player_was_killed_is_not_shown_as_running(admin_client: Client) -> None:
    comparison = asked(status=Comparison.Status.RUNNING)
    Comparison.objects.update(beat_at=MinutesFromNow(-1))
    run = made(comparison=comparison)

    assert "verdict aborted" in text_of(admin_client.get(RUNS))
    assert "verdict aborted" in page_of(admin_client, run)


def test_a_run_by_itself_is_not_shown_as_running_for_ever(admin_client: Client) -> None:
    """`run_load`, killed: it has no heartbeat, but a load that long would have been stopped."""
    young = made(started_at=timezone.now() - timedelta(minutes=5))
    old = made(started_at=timezone.now() - timedelta(minutes=6))
    assert "verdict running" in page_of(admin_client, young)
    assert "verdict aborted" in page_of(admin_client, old)


def test_the_figures_come_as_a_file(admin_client: Client) -> None:
    run = passed()

    response = admin_client.get(reverse("admin:loadtests_figures", args=[run.pk]))

    assert response.json() == run.result
    assert response["Content-Disposition"] == f'attachment; filename="run-{run.pk}.json"'


@pytest.mark.parametrize("pk", [999, 10**30])
def test_figures_of_nothing_are_not_found(admin_client: Client, pk: int) -> None:
    assert admin_client.get(f"{RUNS}{pk}/figures.json").status_code == 404


# Several runs


def compared(client: Client, *runs: LoadRun) -> Answer:
    return client.get(COMPARE, {"ids": ",".join(str(run.pk) for run in runs)})


def test_runs_of_one_load_are_a_group_with_median_and_spread(admin_client: Client) -> None:
    runs = [passed(speed=speed, ceiling_per_s=1000, round=n) for n, speed in enumerate((200, 400))]
    runs += [passed(strategy="pessimistic", speed=s, ceiling_per_s=1000) for s in (250, 500)]

    response = compared(admin_client, *runs)

    [group] = response.context["groups"]
    speeds, shares = group.charts()
    assert speeds.rows() == [["optimistic", "300 (200–400)"], ["pessimistic", "375 (250–500)"]]
    assert shares.rows() == [["optimistic", "30"], ["pessimistic", "37.5"]]
    shown = text_of(response)
    assert "No significant difference between pessimistic and optimistic: rounds overlap." in shown


@pytest.mark.parametrize(
    "other",
    [
        {"server": "asgi"},
        {"database": "SQLite 3.45"},
        {"units": 99},
        {"buyers": 99},
        {"within_s": 1.0},
    ],
)
def test_runs_of_other_loads_are_not_thrown_together(
    admin_client: Client, other: dict[str, Any]
) -> None:
    response = compared(admin_client, passed(), passed(**other))
    assert len(response.context["groups"]) == 2


def test_a_failed_audit_is_left_out_of_the_speeds_and_named(admin_client: Client) -> None:
    good, bad = passed(), failed(sales_per_s=6543.21)

    response = compared(admin_client, good, bad)

    [group] = response.context["groups"]
    shown = text_of(response)
    assert [chart.labels for chart in group.charts()] == [["optimistic"]]
    assert f'<a href="{address("change", bad.pk)}">pessimistic (run {bad.pk})</a>' in shown
    assert "Without a speed, because their audit failed" in shown
    assert "6543" not in shown


def test_the_control_is_judged_and_has_no_speed(admin_client: Client) -> None:
    control: dict[str, Any] = {"strategy": "unguarded", "units": 10}
    strong = compared(admin_client, passed(), failed(**control))
    weak = compared(admin_client, passed(), passed(**control))

    assert "The control oversold, as it must" in text_of(strong)
    assert "too weak to prove anything" in text_of(weak)
    for response in (strong, weak):
        [group] = response.context["groups"]
        assert [chart.labels for chart in group.charts()] == [["optimistic"]]
        assert group.failed() == []


def test_several_concurrencies_are_drawn_as_lines(admin_client: Client) -> None:
    runs = [passed(concurrency=n, speed=s) for n, s in ((100, 500), (1, 90.5), (1000, 450))]
    runs.append(passed(strategy="group_commit", concurrency=100, speed=800))

    [chart] = compared(admin_client, *runs).context["throughput"]

    assert chart.log_x
    assert chart.header() == ["buyers at a time", "optimistic", "group_commit"]
    assert chart.rows() == [["1", "90.5", "–"], ["100", "500", "800"], ["1000", "450", "–"]]


def test_runs_that_did_not_end_are_named(admin_client: Client) -> None:
    run = made(status=LoadRun.Status.ABORTED)
    shown = text_of(compared(admin_client, passed(), run))
    assert re.search(rf"did not end:\s*<a [^>]*>optimistic \(run {run.pk}\)", shown)


def test_the_action_leads_to_the_page_that_compares(admin_client: Client) -> None:
    runs = [passed(), passed()]
    chosen = {"action": "compare_runs", "_selected_action": [run.pk for run in runs]}

    response = admin_client.post(RUNS, chosen, follow=True)

    assert response.redirect_chain == [(f"{COMPARE}?ids={runs[1].pk},{runs[0].pk}", 302)]
    assert len(response.context["groups"][0].runs) == 2


@pytest.mark.parametrize(
    "ids", ["", "none", ",,", "9" * 5000, "-1", "²", ",".join(str(n) for n in range(1, 150))]
)
def test_an_absurd_selection_is_refused_in_words(admin_client: Client, ids: str) -> None:
    response = admin_client.get(COMPARE, {"ids": ids}, follow=True)
    assert response.redirect_chain[0][0] == RUNS
    assert "Select between 1 and 100 runs to compare." in text_of(response)


def test_runs_that_do_not_exist_are_counted(admin_client: Client) -> None:
    shown = text_of(admin_client.get(COMPARE, {"ids": f"{passed().pk},{2**63 - 1}"}))
    assert "1 of the selected runs does not exist." in shown


def test_a_comparison_of_many_asks_little(
    admin_client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    runs = [passed() for _ in range(100)]
    with django_assert_max_num_queries(MOST_QUERIES):
        compared(admin_client, *runs)


# Who may do what


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
    client.force_login(User.objects.create_user("other", is_staff=True), backend=BACKEND)
    run = passed()
    figures = reverse("admin:loadtests_figures", args=[run.pk])
    for page in (RUNS, address("change", run.pk), figures, f"{COMPARE}?ids={run.pk}"):
        assert client.get(page).status_code == 403


def test_who_may_see_runs_sees_them(client: Client) -> None:
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_loadrun"))
    client.force_login(viewer, backend=BACKEND)
    run = passed()
    figures = reverse("admin:loadtests_figures", args=[run.pk])
    for page in (RUNS, address("change", run.pk), figures, f"{COMPARE}?ids={run.pk}"):
        assert client.get(page).status_code == 200
    assert "Start load runs" not in text_of(client.get(RUNS))


BACKEND = "django.contrib.auth.backends.ModelBackend"
