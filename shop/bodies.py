"""What a client may send after the headers: how much, how long it may take, and all of it."""

from __future__ import annotations

import codecs
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from django.conf import settings
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from shop.refusals import Answer, message_page

UPLOADS = "/admin/"
"""Where pictures may be sent to; everywhere else a body is a short form."""
TOO_LARGE = Answer(status=413, code="too_large", title=_("Too much was sent"))
NO_LENGTH = Answer(status=411, code="length_required", title=_("Length required"))
ENCODED = Answer(status=415, code="encoded", title=_("Cannot be read"))
INCOMPLETE = Answer(status=400, code="incomplete", title=_("Only a part has arrived"))


def limit_of(path: str) -> int:
    """How many bytes a body sent to this path may have."""
    return settings.MAX_UPLOAD_BYTES if path.startswith(UPLOADS) else settings.MAX_BODY_BYTES


class WholeBodyMiddleware:
    """
    Passes a request on when all of its body is here, and refuses the rest in words.

    Django would take a body that is cut off for a shorter one, and one that it cannot read
    (chunked, compressed) for none: a form without its quantity, which buys one unit. Nothing
    else is begun before, so a client that stalls holds no transaction and no connection.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Read the body, if there is one; refuse fields that are not written in UTF-8."""
        if request.encoding is not None and codecs.lookup(request.encoding).name != "utf-8":
            request.encoding = "utf-8"
            return message_page(request, ENCODED, gettext("Send everything in UTF-8."))
        if request.META.get("CONTENT_LENGTH") or "HTTP_TRANSFER_ENCODING" in request.META:
            refused = _refusal(request)
            if refused is not None:
                return message_page(request, *refused)
        return self.get_response(request)


def _refusal(request: HttpRequest) -> tuple[Answer, str] | None:
    """Read the body; why it cannot be used, if so."""
    if "HTTP_TRANSFER_ENCODING" in request.META:
        return NO_LENGTH, gettext("Send the length of the body, and the body in one piece.")
    length = int(request.META["CONTENT_LENGTH"])
    limit = limit_of(request.path_info)
    if length > limit:
        return TOO_LARGE, gettext("At most %(limit)s bytes can be sent here.") % {"limit": limit}
    if "HTTP_CONTENT_ENCODING" in request.META:
        return ENCODED, gettext("Send the body as it is, without compressing it.")
    if len(_read_in_time(request)) < length:
        return INCOMPLETE, gettext("The connection was too slow. Nothing was done. Try again.")
    return None


def _read_in_time(request: HttpRequest) -> bytes:
    """Read the body, or what of it arrives within BODY_WAIT_S; under ASGI it has arrived."""
    connection: socket.socket | None = request.META.get("gunicorn.socket")
    if connection is None:
        return request.body
    _clock.start(connection)
    try:
        return request.body
    except UnreadablePostError:
        return b""
    finally:
        _clock.stop(connection)


class BodyClock:
    """
    Ends the reading of bodies that take longer than BODY_WAIT_S in all.

    A socket's own timeout begins anew with every byte, so a client that sends one now and
    then would keep a thread of the server for as long as it likes.
    """

    def __init__(self) -> None:
        self._due_at: dict[socket.socket, float] = {}
        self._watching = threading.Lock()

    def start(self, connection: socket.socket) -> None:
        """Give this connection BODY_WAIT_S from now."""
        self._due_at[connection] = time.monotonic() + settings.BODY_WAIT_S
        if self._watching.acquire(blocking=False):
            threading.Thread(target=self._watch, name="body-clock", daemon=True).start()

    def stop(self, connection: socket.socket) -> None:
        """Leave this connection alone from now on."""
        del self._due_at[connection]

    def _watch(self) -> None:
        while True:
            time.sleep(settings.BODY_WAIT_S / 10)
            now = time.monotonic()
            for connection, due_at in list(self._due_at.items()):
                if now >= due_at:
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_RD)


_clock = BodyClock()
