"""Requests whose headers name a media type that nobody can read: refused, or taken for none."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest
from django.http.request import MediaType
from django.utils.functional import cached_property

UNREADABLE = "application/octet-stream"


class _Tolerant(HttpRequest):
    """
    Takes a Content-Type that cannot be read for that of no form, such an Accept for none.

    Django raises for them (`x*=klingon''y`), the first before any middleware. With a charset
    it decodes the query there too, and raises for the charset (`hex`) or for too many fields:
    WholeBodyMiddleware refuses all charsets but UTF-8, and whoever reads the query too many.
    """

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            super()._set_content_type_params(meta)  # type: ignore[misc]  # not in the stubs
        except (ValueError, LookupError, SuspiciousOperation):
            self.content_type, self.content_params = UNREADABLE, {}

    @cached_property
    def accepted_types(self) -> list[MediaType]:
        """See Django's; empty for a header that cannot be read."""
        try:
            return super().accepted_types
        except ValueError:
            return []


class TolerantWSGIRequest(_Tolerant, WSGIRequest):
    """A request that gunicorn's gthread worker took."""


class TolerantASGIRequest(_Tolerant, ASGIRequest):
    """A request that gunicorn's asgi worker took."""
