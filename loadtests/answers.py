"""
What a buyer reads from a page and makes of an answer.

For every generator alike, so it imports neither Django nor locust.
"""

from __future__ import annotations

import json
import re
from typing import Any

TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
KEY = re.compile(r'name="key" value="([^"]+)"')
MOST_TRIES = 30
"""How often an unknown outcome is asked for, with the same key."""
TRY_AGAIN_S = 0.5


def told(status: int, text: str | None) -> dict[str, Any]:
    """The answer's half of a line in the clients' record; status 0 is no answer at all."""
    body = body_of(text)
    return {
        "status": status,
        "outcome": outcome_of(status, body),
        "order": body.get("order"),
        "version": body.get("stock_version"),
    }


def outcome_of(status: int, body: dict[str, Any]) -> str:
    """Name what an answer means for the buyer; one cut off on its way means nothing yet."""
    code = body.get("code")
    if status in (200, 201, 202, 409) and not body:
        return "unknown"
    if status in (200, 201, 202):
        return {200: "replayed", 201: "sold", 202: "accepted"}[status]
    if status == 409 and isinstance(code, str):
        return code
    if status == 503 and code in ("busy", "unavailable"):
        return "busy" if code == "busy" else "failed"
    return "unknown" if status == 0 or status >= 500 else "failed"


def body_of(text: str | None) -> dict[str, Any]:
    """Read a JSON object; anything else is an empty one."""
    try:
        body = json.loads(text or "")
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
