"""Runs and comparisons as they are kept, made without running anything."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from loadtests.models import Comparison, LoadRun

FINDING = {"code": "oversold", "text": "103 units sold of 100: 3 never existed <b>& more</b>."}
SPEED = 287.4
RESULT: dict[str, Any] = {
    "strategy": "optimistic",
    "units": 100,
    "buyers": 1000,
    "sold": 100,
    "accepted": 0,
    "refused": {"sold_out": 893},
    "busy": 7,
    "failed": 0,
    "oversold": 0,
    "undersold": 0,
    "duration_s": 0.35,
    "sales_per_s": SPEED,
    "latency_ms": {
        "sold": {"p50": 81.5, "p95": 120.0, "p99": 150.5, "max": 161.0},
        "refused": {"p50": 41.5, "p95": 60.0, "p99": 66.0, "max": 71.0},
    },
    "over_time": {"slice_s": 0.1, "sold": [40, 35, 25], "refused": [0, 0, 893], "busy": [0, 0, 7]},
    "attempts_mean": 1.62,
    "audit": {"ok": True, "total": 0, "findings": []},
    "timing_ms": {"queue": 3.1, "commit": 2.2},
    "innodb": {"Innodb_row_lock_waits": 17},
    "cost": {"worker_rss_mb": [61.2, 61.9]},
    "generator": "locust 2.40",
    "generator_cpu_percent": 55.0,
    "generator_saturated": False,
    "environment": {"commit": "c0ffee1", "cores": 2, "workers": 4, "database_settings": {"a": "1"}},
}


def made(**fields: Any) -> LoadRun:
    """Keep a run; without more it is going on."""
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


def passed(*, speed: float = SPEED, result: dict[str, Any] | None = None, **fields: Any) -> LoadRun:
    """Keep a run whose audit passed."""
    values = {
        "status": LoadRun.Status.PASSED,
        "sold": 100,
        "oversold": 0,
        "sales_per_s": speed,
        "result": RESULT | {"sales_per_s": speed} | (result or {}),
        "finished_at": timezone.now(),
    }
    return made(**(values | fields))


def failed(**fields: Any) -> LoadRun:
    """Keep a run as it is kept when its audit failed: without a speed."""
    nothing = dict.fromkeys(("sales_per_s", "duration_s", "over_time"))
    audit = {"ok": False, "total": 1, "findings": [FINDING]}
    values = {
        "status": LoadRun.Status.FAILED,
        "strategy": "pessimistic",
        "sold": 103,
        "oversold": 3,
        "result": RESULT | nothing | {"sold": 103, "oversold": 3, "audit": audit},
        "finished_at": timezone.now(),
    }
    return made(**(values | fields))


def asked(**fields: Any) -> Comparison:
    """Keep a comparison; without more it waits."""
    values: dict[str, Any] = {
        "strategies": ["optimistic", "pessimistic"],
        "units": 100,
        "buyers": 1000,
        "concurrency": 200,
        "rounds": 2,
        "asked_by": "ada",
    }
    return Comparison.objects.create(**(values | fields))
