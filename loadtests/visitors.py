"""Visitors of the shop: each got the product page as a new browser, and keeps what it gave."""

from __future__ import annotations

import http.client
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urlsplit

from loadtests.answers import TOKEN, body_of, told

ANSWER_WITHIN_S = 15.0
LOOK_AGAIN_S = 1.0
JSON = "application/json"
UNREACHABLE = (OSError, http.client.HTTPException)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """A browser with the product page open: its cookies, and the token of its form."""

    cookies: str
    token: str


def arrive(*, host: str, product: str, count: int) -> Iterator[Visitor]:
    """
    Open the product page as `count` new visitors, one after another.

    Raises OSError or HTTPException when the shop cannot be reached, ValueError when
    what it gives is no product page.
    """
    with closing(connect(host)) as shop:
        for _ in range(count):
            shop.request("GET", f"/products/{product}/")
            yield _visitor(shop.getresponse())


def pass_the_room(
    *, host: str, product: str, within_s: float, until: threading.Event | None = None
) -> Visitor | None:
    """
    Wait in the product's waiting room as a new visitor, and open the product page.

    Looks as often as the room asks for, and again where there was no answer. None when it
    says that nothing is left, or has not let the visitor in `within_s`. With `until` the
    visitor stays though nothing is left, for a unit may come back, until that is set. Raises
    ValueError when what it gives is no product page.
    """
    cookies: dict[str, str] = {}
    over = until or threading.Event()
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and not over.is_set():
        status, page, after_s = _get(host, f"/products/{product}/queue/", cookies, accept=JSON)
        told = body_of(page)
        if told.get("state") == "admitted":
            return _page_of(host, product, cookies, deadline)
        if status not in (0, 200, 429, 503) or (told.get("state") == "sold_out" and not until):
            return None
        over.wait(told.get("poll_after_s", after_s))
    return None


def connect(host: str) -> http.client.HTTPConnection:
    """Prepare a connection to the shop at an address like http://127.0.0.1:8000."""
    address = urlsplit(host)
    if address.scheme != "http" or not address.hostname:
        raise ValueError(f"“{host}” is no address like http://127.0.0.1:8000.")
    return http.client.HTTPConnection(address.hostname, address.port or 80, timeout=ANSWER_WITHIN_S)


def ask(visitor: Visitor, *, host: str, product: str, key: str) -> dict[str, object]:
    """Send one purchase and read the answer, as the record has it; no answer is unknown."""
    return told(*_post(visitor, host, f"/products/{product}/buy/", quantity="1", key=key))


def pay(visitor: Visitor, *, host: str, order: str) -> bool:
    """Pay for an order that is held; whether it is paid then."""
    payment = str(uuid.uuid4())
    status, text = _post(visitor, host, f"/orders/{order}/pay/", payment=payment)
    return status == 200 and body_of(text).get("status") == "paid"


def _post(visitor: Visitor, host: str, path: str, **fields: str) -> tuple[int, str | None]:
    """Send a form as a program does; the answer's status and text, 0 and None without one."""
    headers = {
        "Accept": JSON,
        "Content-Type": "application/x-www-form-urlencoded",
        "Cookie": visitor.cookies,
        "Origin": host,
    }
    form = urlencode(fields | {"csrfmiddlewaretoken": visitor.token})
    try:
        with closing(connect(host)) as shop:
            shop.request("POST", path, form, headers)
            response = shop.getresponse()
            return response.status, response.read().decode(errors="replace")
    except UNREACHABLE:
        return 0, None


def _page_of(host: str, product: str, cookies: dict[str, str], deadline: float) -> Visitor | None:
    """Open the product page with these cookies; None when the shop has no time for it."""
    while time.monotonic() < deadline:
        status, page, after_s = _get(host, f"/products/{product}/", cookies, accept="text/html")
        if status not in (0, 503):
            return _with_token(status, page, cookies)
        time.sleep(after_s)
    return None


def _get(host: str, path: str, cookies: dict[str, str], *, accept: str) -> tuple[int, str, float]:
    """
    Get a page; its status and text, and in how many seconds to ask again.

    Keeps the cookies, and sends those kept. No answer is status 0.
    """
    sent = "; ".join(f"{name}={value}" for name, value in cookies.items())
    try:
        with closing(connect(host)) as shop:
            shop.request("GET", path, headers={"Accept": accept, "Cookie": sent})
            response = shop.getresponse()
            page = response.read().decode(errors="replace")
    except UNREACHABLE:
        return 0, "", LOOK_AGAIN_S
    cookies |= _cookies_of(response)
    return response.status, page, float(response.headers.get("Retry-After", LOOK_AGAIN_S))


def _visitor(response: http.client.HTTPResponse) -> Visitor:
    page = response.read().decode(errors="replace")
    return _with_token(response.status, page, _cookies_of(response))


def _with_token(status: int, page: str, cookies: dict[str, str]) -> Visitor:
    token = TOKEN.search(page)
    if status != 200 or token is None:
        raise ValueError(f"The product page answered {status}, without a form.")
    sent = "; ".join(f"{name}={value}" for name, value in cookies.items())
    return Visitor(cookies=sent, token=token.group(1))


def _cookies_of(response: http.client.HTTPResponse) -> dict[str, str]:
    cookies: dict[str, str] = {}
    for header in response.headers.get_all("Set-Cookie", []):
        cookies |= {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    return cookies
