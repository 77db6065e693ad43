"""Whether this process is alive, and whether what it needs answers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from django.conf import settings
from django.core.cache import caches
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

DEADLINE_S = 0.9
_askers = {name: ThreadPoolExecutor(max_workers=1) for name in ("database", "redis")}
"""One thread each, so that probes of something that hangs do not pile up, nor connections."""


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Say that the process is alive; touch nothing else."""
    return HttpResponse("alive\n", content_type="text/plain")


@require_safe
async def ahealthz(request: HttpRequest) -> HttpResponse:
    """See healthz()."""
    return healthz(request)


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Say of the database and of Redis whether each answers, within a second."""
    probes: dict[str, Callable[[], object]] = {"database": _ask_database}
    if "locks" in settings.CACHES:
        probes["redis"] = _ask_redis
    asked = {name: _askers[name].submit(probe) for name, probe in probes.items()}
    wait(asked.values(), timeout=DEADLINE_S)
    parts = {name: _verdict(future) for name, future in asked.items()}
    ready = all(part == "ok" for part in parts.values())
    return JsonResponse({"ready": ready, **parts}, status=200 if ready else 503)


def _verdict(asked: Future[object]) -> str:
    if asked.cancel() or not asked.done():
        return f"no answer within {DEADLINE_S} s"
    error = asked.exception()
    return "ok" if error is None else f"no answer ({type(error).__name__})"


def _ask_database() -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()


def _ask_redis() -> None:
    caches["locks"].get("readyz")
