"""What a run ran on: enough to judge its figures, and to repeat it."""

from __future__ import annotations

import os
import platform
import runpy
import subprocess
from importlib.metadata import version

from django.conf import settings
from django.db import connection

from loadtests.processes import GUNICORN_CONF

MYSQL_SETTINGS = (
    "version",
    "tx_isolation",
    "innodb_flush_log_at_trx_commit",
    "sync_binlog",
    "log_bin",
    "innodb_doublewrite",
    "innodb_lock_wait_timeout",
    "max_connections",
)
SQLITE_SETTINGS = ("journal_mode", "synchronous")


def database_name() -> str:
    """Name the database engine and its version, for people."""
    if connection.vendor == "mysql":
        engine = "MariaDB" if connection.mysql_is_mariadb else "MySQL"  # type: ignore[attr-defined]
        return f"{engine} {'.'.join(map(str, connection.mysql_version))}"  # type: ignore[attr-defined]
    return f"SQLite {'.'.join(map(str, connection.Database.sqlite_version_info))}"  # type: ignore[attr-defined]


def describe(*, server_started_here: bool) -> dict[str, object]:
    """Describe commit, versions, database settings, server and machine."""
    gunicorn = runpy.run_path(str(GUNICORN_CONF))
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "django": version("Django"),
        "gunicorn": version("gunicorn"),
        "locust": version("locust"),
        "database": database_name(),
        "database_settings": _database_settings(),
        "workers": gunicorn["workers"] if server_started_here else "unknown: not started here",
        "threads": gunicorn["threads"] if server_started_here else "unknown: not started here",
        "cores": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def serving(environment: dict[str, object], server: str) -> str:
    """Say in a few words what served the shop."""
    workers, threads = environment["workers"], environment["threads"]
    if server == "asgi":
        return f"gunicorn asgi {workers} workers"
    return f"gunicorn gthread {workers} workers × {threads} threads"


def _database_settings() -> dict[str, str]:
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            names = ", ".join(["%s"] * len(MYSQL_SETTINGS))
            cursor.execute(
                f"SHOW SESSION VARIABLES WHERE Variable_name IN ({names})",  # our names
                MYSQL_SETTINGS,
            )
            return dict(cursor.fetchall())
        values = {}
        for name in SQLITE_SETTINGS:
            cursor.execute(f"PRAGMA {name}")
            values[name] = str(cursor.fetchone()[0])
        return values


def _commit() -> str:
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=settings.BASE_DIR,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("COMMIT", "unknown")
    return described.stdout.strip()
