"""Rate limits for views that are not the shop's own, such as signing in."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from shop import rate_limits, refusals
from shop.addresses import client_address
from shop.buyers import identified
from shop.errors import RateLimited

View = Callable[..., HttpResponseBase]


def limited(scope: str) -> Callable[[View], View]:
    """Count the posts to a view by the limits of RATE_LIMITS[scope]; answer 429 over them."""

    def decorate(view: View) -> View:
        @wraps(view)
        @identified
        def wrapped(request: HttpRequest, buyer: str, *args: Any, **kwargs: Any) -> Any:
            if request.method == "POST":
                try:
                    rate_limits.check(scope, buyer=buyer, address=client_address(request))
                except RateLimited as error:
                    return refusals.message_page(request, refusals.answer_to(error), str(error))
            return view(request, *args, **kwargs)

        return wrapped

    return decorate
