"""Who is buying: a signed-in user, or a guest known by a signed cookie."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse

COOKIE = "guest"
COOKIE_AGE_S = 365 * 24 * 3600

View = Callable[..., HttpResponse]


def identified(view: View) -> View:
    """
    Call the view with the buyer as second argument: `user:<id>` or `guest:<uuid>`.

    A new guest's cookie goes out with the answer; a forged one makes a new guest.
    """

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.user.is_authenticated:
            return view(request, f"user:{request.user.pk}", *args, **kwargs)
        known: str | None = request.get_signed_cookie(COOKIE, default=None)
        guest = known or uuid.uuid4().hex
        response = view(request, f"guest:{guest}", *args, **kwargs)
        if known is None:
            response.set_signed_cookie(
                COOKIE,
                guest,
                max_age=COOKIE_AGE_S,
                httponly=True,
                samesite="Lax",
                secure=request.is_secure(),
            )
        return response

    return wrapped
