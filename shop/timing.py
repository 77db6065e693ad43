"""Tells where a purchase's time went, in the header that browsers' own tools show."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from inventory import timings


class ServerTimingMiddleware:
    """Adds Server-Timing to the answers of purchases; installed by SERVER_TIMING=1."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Collect while the request is answered."""
        with timings.collected() as spent:
            response = self.get_response(request)
        if request.method == "POST" and (spent.seconds or spent.attempts):
            parts = [f"{name};dur={1000 * s:.3f}" for name, s in spent.seconds.items()]
            parts.append(f'attempts;desc="{spent.attempts}"')
            response["Server-Timing"] = ", ".join(parts)
        return response
