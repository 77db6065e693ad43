"""/openapi.json: served well, never stale, and true of what the shop answers."""

from __future__ import annotations

import ast
import json
import re
import uuid
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from django.conf import settings
from django.test import Client
from django.urls import URLPattern, URLResolver
from hypothesis import HealthCheck
from hypothesis import settings as bounded
from schemathesis import Case
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from conftest import Buy, MakeProduct
from inventory import terms
from inventory.models import Order, Product
from shop.urls import urlpatterns
from shop.wsgi import application

PAGES_ONLY = {
    "",
    "products/{slug}/",
    "payments/simulated/",
    "payments/simulated/confirm/",
    r"^media/products/(?P{name}[0-9a-f]{32}\.webp)$",
    "i18n/setlang/",
    "admin/login/",
}
"""Addresses that have nothing but pages, and so are not described."""
NOT_OURS = {"admin/", "account/"}
"""What Django's admin answers is its own; accounts have nothing but pages."""
JSON = "application/json"

DESCRIBED: dict[str, Any] = json.loads((settings.BASE_DIR / "shop/openapi.json").read_text())


def without_security(described: dict[str, Any]) -> dict[str, Any]:
    """Leave out the token that every request here is given; that it is needed is in test_buy.py."""
    bare = deepcopy(described)
    for path in bare["paths"].values():
        path.get("post", {}).pop("security", None)
    return bare


schema = schemathesis.openapi.from_dict(without_security(DESCRIBED))
schema.app = application


@pytest.fixture
def description() -> dict[str, Any]:
    return DESCRIBED


def resolved(part: Any, description: dict[str, Any]) -> Any:
    """Follow a reference, if it is one."""
    while "$ref" in part:
        found: Any = description
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def addresses(patterns: list[Any], prefix: str = "") -> Iterator[str]:
    """Every address of the shop as OpenAPI writes it, without its first slash."""
    for pattern in patterns:
        route = prefix + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            if route not in NOT_OURS:
                yield from addresses(pattern.url_patterns, route)
        else:
            assert isinstance(pattern, URLPattern)
            yield route


def answers_in_the_code() -> set[tuple[int, str]]:
    """Status and code of every `Answer(...)` written anywhere in the shop."""
    found = set()
    for file in Path(settings.BASE_DIR / "shop").rglob("*.py"):
        if "tests" in file.parts:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Answer":
                fields = {k.arg: k.value.value for k in node.keywords if hasattr(k.value, "value")}
                found.add((fields["status"], fields["code"]))
    return found


def described_answers(description: dict[str, Any]) -> set[tuple[int, str]]:
    found = set()
    for path in description["paths"].values():
        for method in {"get", "post"} & path.keys():
            for status, response in path[method]["responses"].items():
                content = resolved(response, description).get("content", {})
                problem = content.get("application/problem+json")
                if problem:
                    codes = problem["schema"]["allOf"][1]["properties"]["code"]["enum"]
                    found |= {(int(status), code) for code in codes}
    return found


# Served


def test_is_served_as_it_is_kept(client: Client, description: dict[str, Any]) -> None:
    response = client.get("/openapi.json")

    assert response.status_code == 200
    assert response["Content-Type"] == JSON
    assert response.json() == description
    assert "public" in response["Cache-Control"]
    assert not response.cookies
    assert "Cookie" not in response.get("Vary", "")


def test_is_not_sent_again_to_whoever_has_it(client: Client) -> None:
    first = client.get("/openapi.json")

    again = client.get("/openapi.json", headers={"If-None-Match": first["ETag"]})
    other = client.get("/openapi.json", headers={"If-None-Match": '"another"'})

    assert (again.status_code, again.content) == (304, b"")
    assert other.status_code == 200


# Never stale


def test_describes_every_address_that_is_not_for_pages_only(description: dict[str, Any]) -> None:
    described = {path.removeprefix("/") for path in description["paths"]}
    known = set(addresses(urlpatterns))

    assert described | PAGES_ONLY == known, "describe it, or name it in PAGES_ONLY"
    assert not described & PAGES_ONLY


def test_describes_every_code_with_its_status_and_no_other(description: dict[str, Any]) -> None:
    assert described_answers(description) == answers_in_the_code()


def test_describes_the_methods_that_each_address_knows(
    client: Client, description: dict[str, Any]
) -> None:
    for path, described in description["paths"].items():
        address = path.format(slug="lamp", reference=uuid.uuid4())
        methods = {method.upper() for method in {"get", "post"} & described.keys()}
        methods |= {"HEAD"} if "GET" in methods else set()

        response = client.options(address, headers={"Accept": JSON})

        assert response.status_code == 405, path
        assert set(response["Allow"].split(", ")) == methods


def test_describes_every_state_of_an_order_and_of_a_sale(description: dict[str, Any]) -> None:
    schemas = description["components"]["schemas"]

    states = set(schemas["Purchase"]["properties"]["status"]["enum"])
    assert states == {*Order.Status.values, "accepted"}
    sale_states = schemas["LiveStock"]["properties"]["state"]["enum"]
    assert set(sale_states) == set(Product.SaleState.values)


# True of what the shop answers


@pytest.fixture
def visitor(
    make_product: MakeProduct, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> tuple[Client, str]:
    """A browser that has seen the product's page and has an order; and the order."""
    monkeypatch.setattr(terms, "TERMS_CACHE_S", 60)
    make_product(units=100_000)
    browser = Client(enforce_csrf_checks=True)
    page = browser.get("/products/lamp/").content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token
    browser.defaults["HTTP_X_CSRFTOKEN"] = token[1]
    bought = browser.post("/products/lamp/buy/", headers={"Accept": JSON})
    return browser, bought.json()["order"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("accept", [JSON, "text/html"])
@schema.parametrize()
@bounded(
    max_examples=30,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_answers_as_described(case: Case[Any], visitor: tuple[Client, str], accept: str) -> None:
    """Any request: no 5xx, an answer as described, and no bad one taken for a good one."""
    client, order = visitor
    assert case.meta is not None
    if not case.meta.is_negative_at(ParameterLocation.PATH):
        known = {"slug": "lamp", "reference": order}
        case.path_parameters = {name: known[name] for name in case.path_parameters or {}}

    response = case.call(
        headers={"Accept": accept, "X-CSRFToken": client.defaults["HTTP_X_CSRFTOKEN"]},
        cookies={name: morsel.value for name, morsel in client.cookies.items()},
    )
    excluded: list[Any] = []
    if response.status_code == 422:
        excluded = [positive_data_acceptance]  # a key of before
    if case.method == "GET" and response.status_code == 303:
        excluded = [negative_data_rejection]  # a look where one buys, whatever is sent with it
    case.validate_response(response, excluded_checks=excluded)
