"""What the tests of the operator's desk share."""

from __future__ import annotations

from html import unescape
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from inventory.models import Product, Stock

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Answer

MOST_QUERIES = 12
OPERATOR = (
    "view_product",
    "change_product",
    "view_order",
    "view_movement",
    "correct_stock",
    "cancel_order",
)


def stock_of(product_id: int) -> tuple[int, int]:
    """Units available, and the version."""
    return Stock.objects.values_list("available", "version").get(product_id=product_id)


def page_of(product: Product) -> str:
    """The address of a product's page."""
    return reverse("admin:inventory_product_change", args=[product.pk])


def address(name: str, *args: object) -> str:
    """An address of the desk's own."""
    return reverse(f"admin:inventory_{name}", args=args)


def text_of(response: Answer) -> str:
    """What an answer says."""
    return unescape(response.content.decode())


def said(response: Answer) -> list[str]:
    """The messages of an answer, each with its level."""
    return [f"{m.level_tag}: {m}" for m in get_messages(response.wsgi_request)]


def staff(name: str, *permissions: str) -> tuple[Client, User]:
    """Somebody who works here, signed in, who may do that and no more."""
    user = User.objects.create_user(name, password="looks", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client, user


def queries_of(client: Client, where: str) -> int:
    """How often a page asks the database."""
    with CaptureQueriesContext(connection) as asked:
        assert client.get(where).status_code == 200
    return len(asked)


class FormReader(HTMLParser):
    """Reads out of a page what a browser would send back, untouched."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: dict[str, Any] = {}
        self.select = self.textarea = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        name, kind = named.get("name", ""), named.get("type", "text")
        if tag == "input" and name and kind not in ("submit", "button"):
            if kind != "checkbox" or "checked" in named:
                self.sent[name] = named.get("value", "on" if kind == "checkbox" else "")
        elif tag == "select":
            self.select = name
        elif tag == "option" and self.select and "selected" in named:
            self.sent[self.select] = named["value"]
        elif tag == "textarea":
            self.textarea = name
            self.sent[name] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self.sent[self.textarea] = self.sent[self.textarea].removeprefix("\n")
            self.textarea = ""
        elif tag == "select":
            self.select = ""

    def handle_data(self, data: str) -> None:
        if self.textarea:
            self.sent[self.textarea] += data


def form_in(response: Answer) -> dict[str, Any]:
    """What sending an answer's form unchanged would send."""
    reader = FormReader()
    reader.feed(response.content.decode())
    return {name: value for name, value in reader.sent.items() if name != "csrfmiddlewaretoken"}


def opened_form(client: Client, where: str) -> dict[str, Any]:
    """Open a page with a form; what saving it unchanged would send."""
    response = client.get(where)
    assert response.status_code == 200
    return form_in(response)
