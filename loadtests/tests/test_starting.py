"""Comparisons at the desk: asked for, watched and cancelled; played in test_queue.py."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries, Settings

from inventory.clock import DatabaseNow, MinutesFromNow
from loadtests.admin.starting import MOST_WAITING
from loadtests.models import Comparison, LoadRun, Worker
from loadtests.tests.made import asked, failed, made, passed

pytestmark = pytest.mark.django_db

START = reverse("admin:loadtests_comparison_add")
LIST = reverse("admin:loadtests_comparison_changelist")
FORM: dict[str, Any] = {
    "strategies": ["pessimistic", "optimistic", "optimistic"],
    "server": "wsgi",
    "units": "100",
    "buyers": "200",
    "concurrency": "50",
    "within_s": "",
    "rounds": "3",
}
BACKEND = "django.contrib.auth.backends.ModelBackend"
Status = Comparison.Status


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Settings) -> None:
    """Nobody attacks these."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def engineer(client: Client) -> Client:
    """Somebody who may start runs and see what becomes of them."""
    return signed_in(client, "start_run", "view_comparison", "view_loadrun")


def signed_in(client: Client, *permissions: str) -> Client:
    user = User.objects.create_user("grace", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user, backend=BACKEND)
    return client


def page_of(comparison: Comparison) -> str:
    return reverse("admin:loadtests_comparison_change", args=[comparison.pk])


def progress_of(comparison: Comparison) -> str:
    return reverse("admin:loadtests_progress", args=[comparison.pk])


def cancel_of(comparison: Comparison) -> str:
    return reverse("admin:loadtests_cancel", args=[comparison.pk])


def shown(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code in (200, 286)
    return unescape(response.content.decode())


def test_asking_queues_a_comparison_and_leads_to_it(engineer: Client) -> None:
    response = engineer.post(START, FORM, follow=True)

    comparison = Comparison.objects.get()
    assert response.redirect_chain == [(page_of(comparison), 302)]
    assert comparison.strategies == ["optimistic", "pessimistic"], "each once, in learning order"
    assert (comparison.units, comparison.buyers, comparison.rounds) == (100, 200, 3)
    assert (comparison.concurrency, comparison.within_s) == (50, None)
    assert (comparison.status, comparison.asked_by) == (Status.QUEUED, "grace")
    entry = LogEntry.objects.get()
    assert entry.user.get_username() == "grace"
    assert entry.change_message == (
        "started: optimistic, pessimistic; 100 units, 200 buyers 50 at a time, rounds: 3"
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"strategies": []}, "required"),
        ({"strategies": ["magic"]}, "magic"),
        ({"server": "apache"}, "apache"),
        ({"units": "-1"}, "greater than or equal to 0"),
        ({"units": "100001"}, "less than or equal to 100000"),
        ({"buyers": "0"}, "greater than or equal to 1"),
        ({"buyers": "9" * 5000}, "whole number"),
        ({"buyers": "5001"}, "less than or equal to 5000"),
        ({"buyers": ""}, "required"),
        ({"concurrency": "1001"}, "less than or equal to 1000"),
        ({"concurrency": ""}, "either the buyers at a time or the seconds"),
        ({"within_s": "10"}, "either the buyers at a time or the seconds"),
        ({"concurrency": "", "within_s": "nan"}, "Enter a number"),
        ({"concurrency": "", "within_s": "1e999"}, "Enter a number"),
        ({"concurrency": "", "within_s": "601"}, "less than or equal to 600"),
        ({"rounds": "11"}, "less than or equal to 10"),
        ({"rounds": "10", "buyers": "5000"}, "100,000 purchases in all; at most 50,000"),
        (
            {"concurrency": "", "within_s": "600", "rounds": "10", "buyers": "1"},
            "12,000 seconds of arrivals in all; at most 3,600",
        ),
    ],
)
def test_absurd_wishes_are_refused_and_nothing_is_lost(
    engineer: Client, wrong: dict[str, Any], said: str
) -> None:
    response = engineer.post(START, FORM | wrong)

    text = unescape(response.content.decode())
    assert response.status_code == 200
    assert said in text
    assert not Comparison.objects.exists()
    assert 'value="pessimistic"' in text
    if "strategies" not in wrong:
        assert text.count("checked") == 2, "what was filled in stays"


def test_nothing_at_all_is_refused(engineer: Client) -> None:
    assert engineer.post(START, {}).status_code == 200
    assert not Comparison.objects.exists()


def test_the_queue_is_bounded(engineer: Client) -> None:
    for _ in range(MOST_WAITING):
        asked()
    assert "20 comparisons wait already" in unescape(engineer.post(START, FORM).content.decode())
    assert Comparison.objects.count() == MOST_WAITING


def test_the_limits_stand_beside_the_fields(engineer: Client) -> None:
    text = shown(engineer, START)
    for limit in ("1 to 5,000", "at most 50,000", "1 to 1,000", "0.1 to 600", "1 to 10"):
        assert limit in text


def test_who_may_only_look_starts_and_cancels_nothing(client: Client) -> None:
    viewer = signed_in(client, "view_comparison", "view_loadrun")
    comparison = asked()

    assert viewer.get(START).status_code == 403
    assert viewer.post(START, FORM).status_code == 403
    assert viewer.post(cancel_of(comparison)).status_code == 403
    assert "Cancel</button>" not in shown(viewer, page_of(comparison))
    assert Comparison.objects.get().status == Status.QUEUED


def test_who_may_only_start_sees_nothing(client: Client) -> None:
    starter = signed_in(client, "start_run")

    response = starter.post(START, FORM)

    assert response.headers["Location"] == reverse("admin:index")
    comparison = Comparison.objects.get()
    assert starter.get(progress_of(comparison)).status_code == 403
    assert starter.post(cancel_of(comparison)).headers["Location"] == reverse("admin:index")


def test_cancelling_needs_a_post_and_its_token(engineer: Client) -> None:
    comparison = asked()
    careful = Client(enforce_csrf_checks=True)
    careful.cookies = engineer.cookies

    assert engineer.get(cancel_of(comparison)).status_code == 405
    assert careful.post(cancel_of(comparison)).status_code == 403
    assert Comparison.objects.get().status == Status.QUEUED


def test_a_waiting_comparison_is_cancelled_and_that_is_logged(engineer: Client) -> None:
    comparison = asked()

    engineer.post(cancel_of(comparison))

    assert Comparison.objects.get().status == Status.CANCELLED
    entry = LogEntry.objects.get()
    assert (entry.change_message, entry.object_id) == ("cancelled", str(comparison.pk))


def test_a_running_one_is_asked_to_end(engineer: Client) -> None:
    comparison = asked(status=Status.RUNNING, playing=True, step="optimistic")
    Comparison.objects.update(beat_at=DatabaseNow())

    engineer.post(cancel_of(comparison))

    comparison.refresh_from_db()
    assert (comparison.status, comparison.cancel_asked) == (Status.RUNNING, True)
    text = shown(engineer, page_of(comparison))
    assert "Cancelling …" in text
    assert "Cancel</button>" not in text


@pytest.mark.parametrize("status", [Status.DONE, Status.FAILED, Status.CANCELLED, Status.LOST])
def test_what_is_over_is_not_cancelled(engineer: Client, status: Comparison.Status) -> None:
    comparison = asked(status=status, log="It went wrong.")

    response = engineer.post(cancel_of(comparison), follow=True)

    assert "nothing was cancelled" in unescape(response.content.decode())
    assert Comparison.objects.get().status == status
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("pk", [999, 10**30])
@pytest.mark.parametrize("page", ["progress", "cancel"])
def test_nothing_is_not_found(engineer: Client, page: str, pk: int) -> None:
    address = f"{LIST}{pk}/{page}/"
    assert (engineer.get if page == "progress" else engineer.post)(address).status_code == 404


# Watching


def test_the_page_asks_again_while_it_goes_on_and_no_longer(engineer: Client) -> None:
    comparison = asked()
    assert 'hx-trigger="every 2s"' in shown(engineer, page_of(comparison))
    assert engineer.get(progress_of(comparison)).status_code == 200

    Comparison.objects.update(status=Status.DONE)

    assert "hx-trigger" not in shown(engineer, page_of(comparison))
    assert engineer.get(progress_of(comparison)).status_code == 286, "htmx asks no more"


def test_says_what_a_waiting_comparison_waits_for(engineer: Client) -> None:
    comparison = asked()
    assert "No worker is running" in shown(engineer, progress_of(comparison))

    Worker.beat("one")
    assert "A worker takes it in a moment" in shown(engineer, progress_of(comparison))

    Worker.objects.update(beat_at=MinutesFromNow(-1))
    asked(status=Status.RUNNING, playing=True)
    assert "Another comparison is running" in shown(engineer, progress_of(comparison))


def test_shows_how_far_it_is(engineer: Client) -> None:
    comparison = asked(status=Status.RUNNING, step="pessimistic", done=2300, of=4000)
    Comparison.objects.update(beat_at=DatabaseNow())
    for _ in range(2):
        passed(comparison=comparison)
    made(comparison=comparison, strategy="pessimistic", round=2)

    text = shown(engineer, progress_of(comparison))

    assert '<progress max="4000" value="2300"' in text
    assert "2300 of 4000 buyers served" in text
    assert "Round 2 of 2: pessimistic." in text
    assert "Cancel</button>" in text


def test_a_stopped_heartbeat_is_said_at_once(engineer: Client) -> None:
    comparison = asked(status=Status.RUNNING, playing=True)
    Comparison.objects.update(beat_at=MinutesFromNow(-1))
    run = made(comparison=comparison)

    text = shown(engineer, page_of(comparison))

    assert "✗ lost" in text
    assert "Whoever played it was killed" in text
    assert "verdict aborted" in text
    assert "✗ lost" in shown(engineer, LIST)
    run.refresh_from_db()
    assert run.status == LoadRun.Status.RUNNING, "looking changes nothing"


def test_a_failure_shows_the_end_of_its_log(engineer: Client) -> None:
    comparison = asked(status=Status.FAILED, log="It went <b>wrong</b>.\n── server.log\nhow")
    response = engineer.get(page_of(comparison))
    text = response.content.decode()
    assert "It went &lt;b&gt;wrong&lt;/b&gt;." in text
    assert "── server.log\nhow</pre>" in text


def test_what_is_done_shows_its_result(engineer: Client) -> None:
    comparison = asked(status=Status.DONE, unavailable={"redis_lock": "it needs Redis"})
    passed(comparison=comparison, ceiling_per_s=1000)
    failed(comparison=comparison, sales_per_s=6543.21)

    response = engineer.get(page_of(comparison))

    text = unescape(response.content.decode())
    [group] = response.context["groups"]
    assert group.charts()[0].rows() == [["optimistic", "287.4"]]
    assert "The audit failed for pessimistic" in text
    assert "not run: it needs Redis" in text
    assert "6543" not in text


def test_pages_ask_little(
    engineer: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    comparison = asked(status=Status.DONE)
    for _ in range(80):
        passed(comparison=comparison)
    for _ in range(60):
        asked()
    for page in (LIST, START, page_of(comparison), progress_of(comparison)):
        with django_assert_max_num_queries(12):
            engineer.get(page)


def test_a_comparison_offers_nothing_to_edit(admin_client: Client) -> None:
    comparison = asked()
    change, delete = page_of(comparison), page_of(comparison).replace("change", "delete")
    assert admin_client.post(change, FORM).status_code == 403
    assert admin_client.post(delete, {"post": "yes"}).status_code == 403
    assert Comparison.objects.count() == 1
