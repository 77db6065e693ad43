"""How django-axes counts failed sign-ins here."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import django.db
from axes.handlers.database import AxesDatabaseHandler
from django.http import HttpRequest

from inventory.verdicts import Verdict, verdict_on
from shop.addresses import client_address

LONGEST_NAME = 255
"""Characters of a name in the table of failed sign-ins."""
MOST_TRIES = 8
LONGEST_PAUSE_S = 0.05


class PatientHandler(AxesDatabaseHandler):  # type: ignore[misc]  # axes ships no types
    """Counts in the database; what a deadlock undid is done again, so that a burst is counted."""

    def user_login_failed(self, *args: Any, **kwargs: Any) -> None:
        """Count a failure."""
        _patiently(super().user_login_failed, *args, **kwargs)

    def user_logged_in(self, *args: Any, **kwargs: Any) -> None:
        """Forget the failures before it."""
        _patiently(super().user_logged_in, *args, **kwargs)


def _patiently(work: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    for _ in range(MOST_TRIES - 1):
        try:
            return work(*args, **kwargs)
        except django.db.Error as error:
            if verdict_on(error) is not Verdict.ROLLED_BACK:
                raise
        time.sleep(random.uniform(0, LONGEST_PAUSE_S))
    return work(*args, **kwargs)


def noted_name(request: HttpRequest, credentials: dict[str, str] | None) -> str:
    """Say under which name a failed sign-in is noted."""
    name = (credentials or request.POST).get("username") or ""
    return name[:LONGEST_NAME]


def noted_address(request: HttpRequest) -> str | None:
    """Say under which address a failed sign-in is noted."""
    return client_address(request) or None
