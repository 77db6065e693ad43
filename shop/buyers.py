"""Who is buying: a signed-in user, or a guest known by a signed cookie."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Coroutine
from functools import cache, wraps
from typing import Any

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

from inventory.threads import in_thread

COOKIE = "guest"
COOKIE_AGE_S = 365 * 24 * 3600

USER_WAIT_S = 3.0
"""How long a signed-in buyer waits for a thread to read the session in."""

View = Callable[..., HttpResponse]
AsyncView = Callable[..., Coroutine[Any, Any, HttpResponse]]


def identified(view: View) -> View:
    """
    Call the view with the buyer as second argument: `user:<id>` or `guest:<uuid>`.

    A new guest's cookie goes out with the answer; a forged one makes a new guest.
    """

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        buyer, new_guest = _who(request)
        response = view(request, buyer, *args, **kwargs)
        return _introduced(request, response, new_guest)

    return wrapped


def aidentified(view: AsyncView) -> AsyncView:
    """See identified()."""

    @wraps(view)
    async def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if settings.SESSION_COOKIE_NAME in request.COOKIES:
            buyer, new_guest = await in_thread(_who, USER_WAIT_S, request)
        else:
            buyer, new_guest = _who(request)
        response = await view(request, buyer, *args, **kwargs)
        return _introduced(request, response, new_guest)

    return wrapped


def _who(request: HttpRequest) -> tuple[str, str | None]:
    """The buyer; and the name of the guest, if it is a new one."""
    if settings.SESSION_COOKIE_NAME in request.COOKIES and request.user.is_authenticated:
        return f"user:{request.user.pk}", None
    known = _known_guest(request)
    guest = known or uuid.uuid4().hex
    return f"guest:{guest}", None if known else guest


def guest_of(request: HttpRequest) -> str | None:
    """The guest that this browser is, or was before it signed in: `guest:<uuid>`."""
    known = _known_guest(request)
    return f"guest:{known}" if known else None


def owners(request: HttpRequest, buyer: str) -> list[str]:
    """Under which names this browser's buyer may own orders: a guest's may be on their way."""
    guest = guest_of(request)
    return [buyer, guest] if guest and guest != buyer else [buyer]


def forget_guest(response: HttpResponse) -> HttpResponse:
    """Make whoever uses this browser next a new guest."""
    response.delete_cookie(COOKIE, samesite="Lax")
    return response


def _known_guest(request: HttpRequest) -> str | None:
    try:
        return _signer(settings.SECRET_KEY).unsign(request.COOKIES[COOKIE])
    except (KeyError, signing.BadSignature):
        return None


@cache
def _signer(secret: str) -> signing.TimestampSigner:
    """Kept, unlike that of Django's signed cookies: to make one costs as much as to use it."""
    return signing.get_cookie_signer(salt="shop.buyers.guest")


def _introduced(
    request: HttpRequest, response: HttpResponse, new_guest: str | None
) -> HttpResponse:
    patch_vary_headers(response, ["Cookie"])
    if new_guest is not None:
        response.set_cookie(
            COOKIE,
            _signer(settings.SECRET_KEY).sign(new_guest),
            max_age=COOKIE_AGE_S,
            httponly=True,
            samesite="Lax",
            secure=request.is_secure(),
        )
    return response
