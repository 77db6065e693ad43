"""The measurement of the desk: every page is opened, and one that is too slow is found out."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command

from shop.management.commands import measure_desk

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def history(db: None) -> None:
    """A small one, and a load run."""
    call_command("seed_history", orders=3000, products=3, verbosity=0)
    apps.get_model("loadtests", "LoadRun").objects.create(
        strategy="optimistic", units=1, buyers=1, opening_available=1, opening_version=1
    )


def test_every_page_is_opened_and_the_measurer_leaves(
    history: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure_desk, "MOST_MS", 60_000)
    monkeypatch.setattr(measure_desk, "LARGE", 10_000)  # few rows may be read from end to end

    call_command("measure_desk", times=1)

    said = capsys.readouterr().out
    assert "← over the bar" not in said
    for page in ("the desk", "product", "ledger, of a day", "orders, by buyer", "loadrun"):
        assert any(line.endswith(f"queries  {page}") for line in said.splitlines())
    assert not get_user_model().objects.exists()


@pytest.mark.parametrize(
    ("bar", "reached"), [("MOST_MS", 0), ("MOST_QUERIES", 3), ("LARGE", 0)], ids=lambda v: str(v)
)
def test_a_page_over_a_bar_is_named_and_the_command_fails(
    history: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    bar: str,
    reached: int,
) -> None:
    monkeypatch.setattr(measure_desk, "MOST_MS", 60_000)
    monkeypatch.setattr(measure_desk, bar, reached)

    with pytest.raises(SystemExit):
        call_command("measure_desk", times=1)

    assert "← over the bar" in capsys.readouterr().out


def test_without_a_history_it_says_how_to_make_one(db: None) -> None:
    with pytest.raises(CommandError, match="seed_history"):
        call_command("measure_desk")
