"""The pages' frame: policy, weight, language, and what every page owes to every visitor."""

from __future__ import annotations

import gzip
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from conftest import MakeProduct
from inventory.models import Order
from shop.csp import PolicyMiddleware

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

pytestmark = pytest.mark.django_db(transaction=True)

WEIGHT_BYTES = 60 * 1024
JSON = {"Accept": "application/json"}
HEADER = "Content-Security-Policy"
SOURCE = re.compile(r'<(?:script|link|img)[^>]*(?:src|href)="([^"]+)"')
PAGES = ["/", "/products/lamp/", "/orders/", "/nothing/"]


def text_of(response: Response) -> str:
    return response.content.decode()


# The policy


@pytest.mark.parametrize(
    "address", [*PAGES, "/products/lamp/stock/", "/healthz", "/admin/", "/admin/login/"]
)
def test_every_answer_carries_the_policy(
    client: Client, make_product: MakeProduct, address: str
) -> None:
    make_product()

    policy = dict(directive.split(" ", 1) for directive in client.get(address)[HEADER].split("; "))

    assert policy == {
        "default-src": "'self'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "object-src": "'none'",
    }


def test_answers_to_a_purchase_carry_the_policy_too(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(units=1)

    answers = [client.post("/products/lamp/buy/", headers=JSON) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 409]
    assert all("unsafe" not in answer[HEADER] for answer in answers)


def test_a_page_for_debugging_may_style_itself(client: Client, settings: Settings) -> None:
    settings.DEBUG = True

    assert HEADER not in client.get("/nothing/")
    assert HEADER in client.get("/")


def test_the_policy_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr("shop.csp.build_policy", lambda: made.append("policy") or "policy")
    middleware = PolicyMiddleware(lambda request: HttpResponse())
    for _ in range(3):
        middleware(RequestFactory().get("/"))

    assert made == ["policy"]


@pytest.mark.parametrize("address", [*PAGES, "one order", "refused", "/admin/login/"])
def test_no_page_has_a_script_or_style_of_its_own(
    client: Client, make_product: MakeProduct, address: str
) -> None:
    make_product(units=1)
    bought = client.post("/products/lamp/buy/")

    if address == "refused":
        page = client.post("/products/lamp/buy/")
    else:
        page = client.get(bought["Location"] if address == "one order" else address)

    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", text_of(page), re.DOTALL)
    assert all("src=" in attributes and not body.strip() for attributes, body in scripts)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text_of(page))


@pytest.mark.parametrize("address", PAGES)
def test_nothing_comes_from_elsewhere(
    client: Client, make_product: MakeProduct, address: str
) -> None:
    make_product()

    loaded = re.findall(
        r'<(?:script|link|img)[^>]*(?:src|href)="([^"]+)"', text_of(client.get(address))
    )

    assert loaded
    assert all(source.startswith(("/static/", "/media/")) for source in loaded)


# The weight


def test_the_product_page_weighs_no_more_than_60_kb_compressed(
    client: Client, settings: Settings, tmp_path: Path
) -> None:
    settings.MEDIA_ROOT = tmp_path
    call_command("seed_demo", verbosity=0)

    for slug in ("aurora-lamp", "field-kettle", "night-print", "orbit-headphones"):
        page = client.get(f"/products/{slug}/")
        weights = {"page": len(gzip.compress(page.content))}
        for source in SOURCE.findall(text_of(page)):
            weights[source] = weight_of(source, tmp_path)
        assert len(weights) >= 8, "scripts, styles and the picture are among them"
        assert sum(weights.values()) <= WEIGHT_BYTES, weights


def weight_of(source: str, media: Path) -> int:
    if source.startswith("/media/"):
        return (media / source.removeprefix("/media/")).stat().st_size
    found = finders.find(source.removeprefix("/static/"))
    assert isinstance(found, str)
    return len(gzip.compress(Path(found).read_bytes()))


@pytest.mark.parametrize("address", ["/", "/products/lamp/"])
def test_pages_are_sent_compressed(client: Client, make_product: MakeProduct, address: str) -> None:
    make_product()

    page = client.get(address, headers={"Accept-Encoding": "gzip"})

    assert page["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in page["Vary"]
    assert "Lamp" in gzip.decompress(page.content).decode()


def test_collected_files_are_compressed_and_named_by_their_content(
    settings: Settings, tmp_path: Path
) -> None:
    settings.STATIC_ROOT = tmp_path
    storage = {"BACKEND": "shop.static_files.GzippedStaticFiles"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}

    call_command("collectstatic", interactive=False, verbosity=0)

    names = {file.name for file in (tmp_path / "shop").iterdir()}
    for kind in ("js", "css"):
        hashed = [name for name in names if re.fullmatch(rf"shop\.[0-9a-f]{{12}}\.{kind}", name)]
        assert len(hashed) == 1
        assert f"{hashed[0]}.gz" in names
    assert not [name for name in names if name.endswith(".br")]


# What every page owes to every visitor


@pytest.mark.parametrize("address", PAGES)
def test_every_page_has_its_landmarks_its_heading_and_its_language(
    client: Client, make_product: MakeProduct, address: str
) -> None:
    make_product()

    page = text_of(client.get(address))

    assert '<html lang="en">' in page
    assert '<a class="skip" href="#main">' in page
    for landmark in ("<header", "<nav aria-label", '<main id="main"', "<footer"):
        assert page.count(landmark) == 1, landmark
    assert len(re.findall(r"<h1[ >]", page)) == 1
    assert '"allowEval":false' in page


# The language


def test_the_language_can_be_switched_and_the_visitor_stays_where_they_were(
    client: Client, make_product: MakeProduct
) -> None:
    make_product()
    page = text_of(client.get("/products/lamp/"))
    assert 'name="next" value="/products/lamp/"' in page
    assert 'name="language" value="zh-hans"' in page

    switched = client.post("/i18n/setlang/", {"language": "zh-hans", "next": "/products/lamp/"})

    assert (switched.status_code, switched["Location"]) == (302, "/products/lamp/")
    page = text_of(client.get("/products/lamp/"))
    assert '<html lang="zh-hans">' in page
    assert 'name="language" value="en"' in page


def test_the_language_switch_leads_nowhere_else(client: Client) -> None:
    switched = client.post("/i18n/setlang/", {"language": "en", "next": "https://evil.example/"})

    assert switched["Location"] == "/"


def test_after_a_refusal_the_switch_leads_to_the_product(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(units=0)

    refused = client.post("/products/lamp/buy/")

    assert 'name="next" value="/products/lamp/"' in text_of(refused)


# Buying from a card, and what a page says before and after


def test_a_card_buys_one_unit_with_a_key_of_its_own(
    client: Client, make_product: MakeProduct
) -> None:
    make_product("lamp")
    make_product("kettle")
    page = text_of(client.get("/"))
    forms = re.findall(r'<form [^>]*class="buy".*?</form>', page, re.DOTALL)
    fields = [dict(re.findall(r'name="([^"]+)" value="([^"]*)"', form)) for form in forms]

    bought = client.post("/products/lamp/buy/", fields[1])

    assert len({field["key"] for field in fields}) == 2
    order = Order.objects.get()
    assert bought["Location"] == f"/orders/{order.reference}/"
    assert (order.quantity, str(order.key)) == (1, fields[1]["key"])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, ">Buy</button>"),
        ({"units": 0}, None),
        ({"admitted_per_minute": 10}, ">Join the queue</a>"),
        ({"admitted_per_minute": 10, "units": 0}, None),
    ],
)
def test_a_card_offers_what_can_be_done(
    client: Client, make_product: MakeProduct, fields: dict[str, int], says: str | None
) -> None:
    make_product(**fields)

    page = text_of(client.get("/"))

    offers = re.findall(r">[^<>]+</button>|>Join the queue</a>", page.split("<main")[1])
    assert offers == ([] if says is None else [says])


def test_lists_first_what_can_be_bought_and_last_what_cannot(
    client: Client, make_product: MakeProduct
) -> None:
    now = timezone.now()
    make_product("a-over", closes_at=now)
    make_product("b-sold", units=0)
    make_product("c-soon", opens_at=now + timedelta(hours=1))
    make_product("d-open")

    page = text_of(client.get("/"))

    assert re.findall(r'<h2><a href="/products/([^/]+)/', page) == [
        "d-open",
        "c-soon",
        "b-sold",
        "a-over",
    ]


def test_the_list_costs_one_query_however_long_it_is(
    client: Client, make_product: MakeProduct, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for slug in ("lamp", "kettle", "print"):
        make_product(slug)

    with django_assert_num_queries(1):
        client.get("/")


def test_a_page_that_waits_carries_the_servers_clock_and_the_start(
    client: Client, make_product: MakeProduct
) -> None:
    opens_at = timezone.now() + timedelta(minutes=15)
    make_product(opens_at=opens_at)

    page = text_of(client.get("/products/lamp/"))

    found = re.search(r'data-countdown-to="([^"]+)" data-server-now="([^"]+)"', page)
    assert found
    assert found[1] == opens_at.isoformat()
    assert abs(datetime.fromisoformat(found[2]) - timezone.now()) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("fields", "form", "sentence", "way"),
    [
        ({"units": 0}, {}, "Sold out: no unit is left. Nothing was bought.", 'href="/"'),
        ({"units": 2}, {"quantity": "3"}, "Only 2 left. Choose a smaller quantity", 'href="/"'),
        ({"limit_per_buyer": 1}, {"quantity": "2"}, "Only 1 per buyer", 'href="/orders/"'),
    ],
)
def test_a_refusal_says_what_happened_and_what_to_do_next(
    client: Client,
    make_product: MakeProduct,
    fields: dict[str, int],
    form: dict[str, str],
    sentence: str,
    way: str,
) -> None:
    make_product(**fields)

    page = text_of(client.post("/products/lamp/buy/", form))
    told = client.post("/products/lamp/buy/", form, headers=JSON)

    notice = re.search(r'<div class="notice" role="alert".*?</div>', page, re.DOTALL)
    assert notice
    assert sentence in notice[0]
    assert way in notice[0]
    assert sentence in told.json()["detail"]
