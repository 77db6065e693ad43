"""The one Content-Security-Policy of the whole site, the admin included."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from csp.constants import HEADER
from csp.utils import build_policy
from django.conf import settings
from django.http import HttpRequest, HttpResponse

DEBUG_PAGES = (HTTPStatus.NOT_FOUND, HTTPStatus.INTERNAL_SERVER_ERROR)


class PolicyMiddleware:
    """
    Sends the policy that django-csp makes of CONTENT_SECURITY_POLICY.

    It is made once: django-csp's own middleware makes it anew for each answer, which costs
    a purchase some forty microseconds.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.policy = build_policy()

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Pass the request on; leave Django's debug pages, which style themselves inline."""
        response = self.get_response(request)
        if not (settings.DEBUG and response.status_code in DEBUG_PAGES):
            response.headers[HEADER] = self.policy
        return response
