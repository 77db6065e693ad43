"""
What a run cost: CPU and memory of the programs behind it, and InnoDB's own counters.

Programs are found by the loopback port they listen on; what listens elsewhere, or
cannot be looked into, is left out rather than guessed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import psutil
from django.conf import settings
from django.db import connection

from loadtests import processes

LOOPBACK = ("127.0.0.1", "::1", "localhost")
INNODB_COUNTERS = (
    "Innodb_row_lock_waits",
    "Innodb_row_lock_time",
    "Innodb_deadlocks",
    "Com_commit",
    "Com_rollback",
    "Innodb_os_log_fsyncs",
)
"""Counts since the server started, of all its sessions; Innodb_row_lock_time is milliseconds."""


class Program:
    """A process and all it started; nobody when it was not found."""

    def __init__(self, eldest: psutil.Process | None) -> None:
        self.eldest = eldest
        self.before_s: dict[int, float] = {}

    @classmethod
    def listening(cls, port: int | None) -> Program:
        """The one that listens on a loopback port."""
        return cls(_listener(port) if port else None)

    def processes(self) -> list[psutil.Process]:
        """Find them as they are now."""
        if self.eldest is None:
            return []
        with suppress(psutil.Error):
            return [self.eldest, *self.eldest.children(recursive=True)]
        return []

    def cpu_s(self) -> dict[int, float]:
        """CPU seconds so far, user and system, by process id."""
        spent = {}
        for process in self.processes():
            with suppress(psutil.Error):
                times = process.cpu_times()
                spent[process.pid] = times.user + times.system
        return spent

    def start(self) -> None:
        """Remember what was spent before."""
        self.before_s = self.cpu_s()

    def spent_ms(self) -> float | None:
        """CPU milliseconds since `start`; None when there is nobody to ask."""
        now = self.cpu_s()
        if not now:
            return None
        return 1000 * sum(spent - self.before_s.get(pid, 0.0) for pid, spent in now.items())

    def worker_rss_mb(self) -> list[float]:
        """Resident megabytes of each process that another of them started."""
        family = {process.pid: process for process in self.processes()}
        sizes = []
        for process in family.values():
            with suppress(psutil.Error):
                if process.ppid() in family:
                    sizes.append(round(process.memory_info().rss / 2**20, 1))
        return sizes


class Meter:
    """Reads the costs of one load: made just before it, read just after it."""

    def __init__(self, host: str) -> None:
        self.server = Program.listening(urlsplit(host).port)
        self.others = {
            "database": Program.listening(_database_port()),
            "redis": Program.listening(_loopback_port(_redis_url())),
            "consumer": Program(_consumer()),
        }
        self.worker_rss_before_mb = self.server.worker_rss_mb()
        for program in (self.server, *self.others.values()):
            program.start()

    def cost(self, *, sales: int, purchases_only: bool) -> dict[str, object]:
        """
        CPU milliseconds per sale, and megabytes per worker before and after the load.

        Without `purchases_only` the load did other work too, so that no CPU is given.
        """
        programs = {"server": self.server, **self.others} if purchases_only and sales else {}
        spent = {name: program.spent_ms() for name, program in programs.items()}
        return {
            **{
                f"{name}_cpu_ms_per_sale": round(ms / sales, 3)
                for name, ms in spent.items()
                if ms is not None
            },
            "worker_rss_before_mb": self.worker_rss_before_mb,
            "worker_rss_mb": self.server.worker_rss_mb(),
        }


def innodb_counters() -> dict[str, int]:
    """Read InnoDB's counters; none on other engines."""
    if connection.vendor != "mysql":
        return {}
    wanted = ", ".join(["%s"] * len(INNODB_COUNTERS))
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW GLOBAL STATUS WHERE Variable_name IN ({wanted})", INNODB_COUNTERS)
        return {name: int(value) for name, value in cursor.fetchall()}


def differences(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """How far each counter went between two readings."""
    return {name: after[name] - value for name, value in before.items() if name in after}


def _listener(port: int) -> psutil.Process | None:
    """Find the program that opened the port: the eldest of those that share it, or its forker."""
    with suppress(psutil.Error):
        pids = {found.pid for found in psutil.net_connections("tcp") if _listens(found, port)}
        eldest = psutil.Process(next(pid for pid in pids if pid)) if any(pids) else None
        while eldest and (parent := eldest.parent()) and _is_of(parent, eldest, port):
            eldest = parent
        return eldest
    return None


def _is_of(parent: psutil.Process, child: psutil.Process, port: int) -> bool:
    """Whether a parent listens too, or is what forked a child that listens on its own."""
    with suppress(psutil.Error):
        return parent.cmdline() == child.cmdline() or any(
            _listens(found, port) for found in parent.net_connections("tcp")
        )
    return False


def _listens(found: Any, port: int) -> bool:
    return bool(found.status == psutil.CONN_LISTEN and found.laddr.port == port)


def _consumer() -> psutil.Process | None:
    """The one that commits what was accepted, if it was started here."""
    with suppress(psutil.Error):
        return next((psutil.Process(pid) for pid in processes.consumers()), None)
    return None


def _database_port() -> int | None:
    values = connection.settings_dict
    if connection.vendor != "mysql" or values["HOST"] not in LOOPBACK:
        return None
    return int(values["PORT"] or 3306)


def _redis_url() -> str:
    location = settings.CACHES.get("locks", {}).get("LOCATION", "")
    return location if isinstance(location, str) else ""


def _loopback_port(url: str) -> int | None:
    address = urlsplit(url)
    return (address.port or 6379) if address.hostname in LOOPBACK else None
