"""The description of what programs can ask and are answered."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import condition, require_safe

DESCRIPTION = Path(__file__).parent.parent / "openapi.json"
KEPT_S = 3600
"""How long a client may keep the description without asking again."""


@cache
def _description() -> bytes:
    return DESCRIPTION.read_bytes()


@cache
def _etag() -> str:
    return f'"{hashlib.sha256(_description()).hexdigest()[:32]}"'


@require_safe
@condition(etag_func=lambda request: _etag())
def openapi(request: HttpRequest) -> HttpResponse:
    """Answer with the OpenAPI description of the shop."""
    response = HttpResponse(_description(), content_type="application/json")
    response["Cache-Control"] = f"public, max-age={KEPT_S}"
    return response
