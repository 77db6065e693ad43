"""What the environment decides, seen from a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from django.conf import settings

STRONG_KEY = "kX7vQ2mZ9tRb4LwYc8NfJ3hGd6PsAe1UuVoTiBxMzKqWyHrEjDnFgCpS5a0l"

READ_NO_ENV_FILE = "import environ; environ.Env.read_env = lambda *args, **kwargs: None; "
SHOW = """
import json
from shop import settings
names = ["CACHES", "DATABASES", "DEBUG", "SECURE_SSL_REDIRECT", "SECURE_HSTS_SECONDS",
         "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "CSRF_COOKIE_HTTPONLY"]
print(json.dumps({name: getattr(settings, name) for name in names}, default=str))
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the project with this environment and no other."""
    return subprocess.run(
        [sys.executable, "-c", READ_NO_ENV_FILE + code],
        cwd=settings.BASE_DIR,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def settings_with(**environment: str) -> dict[str, Any]:
    finished = run(SHOW, **{"SECRET_KEY": STRONG_KEY, **environment})
    assert finished.returncode == 0, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


def last_line_of_refusal(**environment: str) -> str:
    finished = run(SHOW, **environment)
    assert finished.returncode != 0
    return finished.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("environment", [{}, {"SECRET_KEY": ""}, {"DEBUG": "0"}], ids=str)
def test_refuses_to_start_without_a_secret_key(environment: dict[str, str]) -> None:
    assert last_line_of_refusal(**environment) == (
        "django.core.exceptions.ImproperlyConfigured:"
        " Set SECRET_KEY (outside DEBUG there is no default)."
    )


def test_starts_without_a_secret_key_for_debugging() -> None:
    finished = run(SHOW, DEBUG="1")

    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["DEBUG"] is True


def test_is_not_in_debug_and_demands_https_unless_told_otherwise() -> None:
    found = settings_with()

    assert found["DEBUG"] is False
    assert found["SECURE_SSL_REDIRECT"] is True
    assert found["SESSION_COOKIE_SECURE"] is True
    assert found["CSRF_COOKIE_SECURE"] is True
    assert found["CSRF_COOKIE_HTTPONLY"] is True
    assert found["SECURE_HSTS_SECONDS"] >= 31_536_000


def test_demands_no_https_where_that_is_switched_off() -> None:
    found = settings_with(HTTPS="0")

    assert found["SECURE_SSL_REDIRECT"] is False
    assert found["SESSION_COOKIE_SECURE"] is False
    assert found["SECURE_HSTS_SECONDS"] == 0


def test_passes_djangos_deployment_checks_with_production_defaults() -> None:
    finished = run(
        "from django.core.management import execute_from_command_line as manage;"
        "manage(['manage.py', 'check', '--deploy', '--fail-level', 'WARNING'])",
        DJANGO_SETTINGS_MODULE="shop.settings",
        SECRET_KEY=STRONG_KEY,
    )

    assert finished.returncode == 0, finished.stderr
    assert "no issues" in finished.stdout


@pytest.mark.parametrize("database", ["0", "1", "15"])
def test_refuses_a_redis_database_number(database: str) -> None:
    """The number would have to be the cache's or the locks', and a flush of one spares neither."""
    refusal = last_line_of_refusal(
        SECRET_KEY=STRONG_KEY, REDIS_URL=f"redis://localhost:6379/{database}"
    )

    assert "REDIS_URL names the server only" in refusal


def test_refuses_a_redis_database_number_in_the_query_too() -> None:
    refusal = last_line_of_refusal(SECRET_KEY=STRONG_KEY, REDIS_URL="redis://localhost:6379?db=2")

    assert "REDIS_URL names the server only" in refusal


@pytest.mark.parametrize("url", ["redis://localhost:6379", "redis://localhost:6379/"])
def test_keeps_cache_and_locks_in_different_redis_databases(url: str) -> None:
    caches = settings_with(REDIS_URL=url)["CACHES"]

    assert caches["default"]["LOCATION"] == "redis://localhost:6379/0"
    assert caches["locks"]["LOCATION"] == "redis://localhost:6379/1"


def test_gives_up_on_a_silent_redis_long_before_the_request_does() -> None:
    locks = settings_with(REDIS_URL="redis://localhost:6379")["CACHES"]["locks"]

    assert locks["OPTIONS"]["SOCKET_TIMEOUT"] <= 0.5
    assert locks["OPTIONS"]["SOCKET_CONNECT_TIMEOUT"] <= 0.5


@pytest.mark.parametrize("environment", [{}, {"REDIS_URL": ""}], ids=str)
def test_has_no_locks_without_redis(environment: dict[str, str]) -> None:
    caches = settings_with(**environment)["CACHES"]

    assert "locks" not in caches
    assert "LocMem" in caches["default"]["BACKEND"]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        pytest.param({"DATABASE_URL": ""}),
    ],
    ids=str,
)
def test_uses_sqlite_with_one_writer_at_a_time_when_no_database_is_named(
    environment: dict[str, str],
) -> None:
    database = settings_with(**environment)["DATABASES"]["default"]

    assert database["ENGINE"] == "django.db.backends.sqlite3"
    assert database["NAME"] == str(settings.BASE_DIR / "var" / "shop.sqlite3")
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert "journal_mode=WAL" in database["OPTIONS"]["init_command"]


def test_waits_for_locks_and_answers_no_longer_than_a_request_may_take() -> None:
    database = settings_with(DATABASE_URL="mysql://shop:secret@db:3306/shop")["DATABASES"][
        "default"
    ]

    options = database["OPTIONS"]
    assert database["ENGINE"] == "inventory.mysql"
    assert (database["HOST"], int(database["PORT"])) == ("db", 3306)
    assert options["isolation_level"] == "read committed"
    assert "innodb_lock_wait_timeout=3" in options["init_command"]
    assert options["connect_timeout"] <= 2
    assert max(options["read_timeout"], options["write_timeout"]) < 8
    assert database["CONN_HEALTH_CHECKS"]
