"""
Signed messages to the operator's own receiver.

`Last-Unit-Signature` is `v1=` and the hexadecimal HMAC-SHA256, under ALERT_WEBHOOK_SECRET, of
the header `Last-Unit-Timestamp` (Unix seconds), a full stop, and the body. A receiver compares
it, drops what is older than a few minutes, and drops an `id` that it has seen.
"""

from __future__ import annotations

import hmac
import json
import time
import urllib.request
from hashlib import sha256
from typing import Any

from django.conf import settings
from django.urls import reverse

from shop.models import AlertNotice

TIMEOUT_S = 5.0


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Let a redirect be the error that it is here: the message is for one address alone."""


def post(notice: AlertNotice) -> None:
    """Send one notice. Raises OSError, or HTTPException, for every answer that is not 2xx."""
    body = json.dumps(_message(notice)).encode()
    timestamp = str(int(time.time()))
    request = urllib.request.Request(
        settings.ALERT_WEBHOOK_URL,
        data=body,
        headers={
            "Content-Type": "application/json",
            "Last-Unit-Timestamp": timestamp,
            "Last-Unit-Signature": f"v1={signature(timestamp, body)}",
        },
    )
    with urllib.request.build_opener(_NoRedirects).open(request, timeout=TIMEOUT_S):
        pass


def signature(timestamp: str, body: bytes) -> str:
    """Sign a body as of a moment."""
    secret = settings.ALERT_WEBHOOK_SECRET.encode()
    return hmac.new(secret, timestamp.encode() + b"." + body, sha256).hexdigest()


def link(notice: AlertNotice) -> str:
    """Where an operator sees more."""
    return str(settings.SITE_URL + reverse("admin:index"))


def _message(notice: AlertNotice) -> dict[str, Any]:
    return {
        "id": str(notice.pk),
        "event": notice.event,
        "kind": notice.kind,
        "product": notice.product.slug,
        "text": notice.text,
        "happened_at": notice.happened_at.isoformat(),
        "link": link(notice),
    }
