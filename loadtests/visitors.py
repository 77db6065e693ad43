"""Visitors of the shop: each got the product page as a new browser, and keeps what it gave."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urlsplit

from loadtests.answers import TOKEN, told

ANSWER_WITHIN_S = 15.0
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


def connect(host: str) -> http.client.HTTPConnection:
    """Prepare a connection to the shop at an address like http://127.0.0.1:8000."""
    address = urlsplit(host)
    if address.scheme != "http" or not address.hostname:
        raise ValueError(f"“{host}” is no address like http://127.0.0.1:8000.")
    return http.client.HTTPConnection(address.hostname, address.port or 80, timeout=ANSWER_WITHIN_S)


def ask(visitor: Visitor, *, host: str, product: str, key: str) -> dict[str, object]:
    """Send one purchase and read the answer, as the record has it; no answer is unknown."""
    fields = {"quantity": "1", "key": key, "csrfmiddlewaretoken": visitor.token}
    headers = {
        "Accept": "application/json",
        "Content-Type": "application/x-www-form-urlencoded",
        "Cookie": visitor.cookies,
        "Idempotency-Key": key,
        "Origin": host,
    }
    try:
        with closing(connect(host)) as shop:
            shop.request("POST", f"/products/{product}/buy/", urlencode(fields), headers)
            response = shop.getresponse()
            return told(response.status, response.read().decode(errors="replace"))
    except UNREACHABLE:
        return told(0, None)


def _visitor(response: http.client.HTTPResponse) -> Visitor:
    page = response.read().decode(errors="replace")
    token = TOKEN.search(page)
    if response.status != 200 or token is None:
        raise ValueError(f"The product page answered {response.status}, without a form.")
    cookies: list[str] = []
    for header in response.headers.get_all("Set-Cookie", []):
        cookies += [f"{name}={morsel.value}" for name, morsel in SimpleCookie(header).items()]
    return Visitor(cookies="; ".join(cookies), token=token.group(1))
