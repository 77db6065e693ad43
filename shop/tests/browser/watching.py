"""Whatever goes wrong in a page that a test looks at, whether or not the test looks for it."""

from __future__ import annotations

import re

from playwright.sync_api import BrowserContext, ConsoleMessage, Request, Response, WebError

REPEATS = "Failed to load resource:"
"""The console's copy of an answer or a failure that is noted as one."""


class Watch:
    """
    Notes console errors (CSP violations are among them), exceptions, failed requests and refusals.

    One fault is one line: `409 POST http://…/buy/`, `failed GET http://… net::ERR_FAILED`,
    `console http://… <text>`, `exception <text>`.
    """

    def __init__(self) -> None:
        self._faults: list[str] = []
        self._allowed: list[str] = []
        self._contexts: list[BrowserContext] = []

    def over(self, context: BrowserContext) -> None:
        """Watch all pages of a context, from its beginning."""
        self._contexts.append(context)
        context.on("console", self._on_console)
        context.on("weberror", self._on_error)
        context.on("requestfailed", self._on_failure)
        context.on("response", self._on_response)

    def allow(self, *faults: str) -> None:
        """Accept the faults that these regular expressions find: the test provokes them."""
        self._allowed += faults

    def faults(self) -> list[str]:
        """All that went wrong so far and was not provoked."""
        for context in self._contexts:
            context.cookies()  # an answer comes after all events that happened before it
        return [f for f in self._faults if not any(re.search(a, f) for a in self._allowed)]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(REPEATS):
            self._faults.append(f"console {message.location['url']} {message.text}")

    def _on_error(self, error: WebError) -> None:
        self._faults.append(f"exception {error.error}")

    def _on_failure(self, request: Request) -> None:
        left_before_it_came = request.failure == "net::ERR_ABORTED" and (
            not request.is_navigation_request()
        )
        if not left_before_it_came:
            self._faults.append(f"failed {request.method} {request.url} {request.failure}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400:
            self._faults.append(f"{response.status} {response.request.method} {response.url}")
