"""How the shop answers under ASGI without a thread and a connection for every client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, ASGIRequest, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.core.signals import request_started
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve, set_script_prefix
from sqlalchemy.util import await_only, greenlet_spawn

from inventory import purchases
from inventory.threads import NoThreadFree, in_thread
from shop import bodies
from shop.media_types import TolerantASGIRequest
from shop.refusals import crowded

PAGE_WAIT_S = 10.0
"""How long a page waits for a thread before it is answered busy."""

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class BoundedHandler(ASGIHandler):
    """
    Answers asynchronous views on the event loop, all else in ASYNC_THREADS threads.

    Django's own handler gives each request in flight a thread and a database connection,
    and passes through that thread for every hook of every middleware. Here the same
    middleware runs as the synchronous chain that it is under WSGI: with a synchronous view
    in one of the threads, or on the event loop as a greenlet that waits for the view, where
    whatever would block refuses to run.
    """

    request_class = TolerantASGIRequest

    def __init__(self) -> None:
        BaseHandler.__init__(self)
        self.load_middleware(is_async=False)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request, or the worker's start and end."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            raise ValueError(f"This application does not speak {scope['type']}.")

    def make_view_atomic(self, view: Callable[..., Any]) -> Callable[..., Any]:
        """Have the chain wait for an asynchronous view without holding up the event loop."""
        if not iscoroutinefunction(view):
            return super().make_view_atomic(view)

        def wait_for_view(*args: Any, **kwargs: Any) -> Any:
            return await_only(view(*args, **kwargs))

        return wait_for_view

    async def _serve(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        with SpooledTemporaryFile(max_size=settings.MAX_BODY_BYTES) as body:
            try:
                await _receive(body, receive, limit=bodies.limit_of(scope["path"]))
            except RequestAborted:
                return
            set_script_prefix(get_script_prefix(scope))
            request, unreadable = self.create_request(scope, body)
            response = unreadable if request is None else await self._response_to(request)
            assert response is not None
            await self.send_response(response, send)

    async def _response_to(self, request: ASGIRequest) -> HttpResponseBase:
        if _is_for_the_loop(request):
            return await greenlet_spawn(self._answer, request)
        try:
            return await in_thread(self._answer, PAGE_WAIT_S, request)
        except NoThreadFree:
            return crowded()

    def _answer(self, request: ASGIRequest) -> HttpResponseBase:
        """Answer from the first signal to the last, so that nothing is left open here."""
        request_started.send(sender=type(self), scope=request.scope)
        response = self.get_response(request)
        if response.streaming:
            response = _read_here(response)
        response.close()
        return response


async def _receive(body: IO[bytes], receive: Receive, *, limit: int) -> None:
    """
    Read a body; of one that is too long or too slow, the beginning, which is then refused.

    Raises RequestAborted when the client leaves.
    """
    more = True
    with suppress(TimeoutError):
        async with asyncio.timeout(settings.BODY_WAIT_S):
            while more and body.tell() <= limit:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RequestAborted
                body.write(message.get("body", b""))
                more = message.get("more_body", False)
    body.seek(0)


def _is_for_the_loop(request: ASGIRequest) -> bool:
    try:
        return iscoroutinefunction(resolve(request.path_info).func)
    except Resolver404:
        return False


def _read_here(response: Any) -> HttpResponseBase:
    """Read a file here and now, onto the disk if it is long: the event loop must not wait."""
    read = SpooledTemporaryFile(settings.MAX_BODY_BYTES)  # noqa: SIM115  # see _pieces
    read.writelines(response)
    is_long = read.tell() > settings.MAX_BODY_BYTES
    read.seek(0)
    status = HTTPStatus(response.status_code)
    whole = (
        StreamingHttpResponse(_pieces(read), status=status)
        if is_long
        else HttpResponse(read.read(), status=status)
    )
    whole.headers = response.headers
    whole.cookies = response.cookies
    response.close()
    return whole


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    with file:
        while piece := file.read(settings.MAX_BODY_BYTES):
            yield piece


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await purchases.aclose()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
