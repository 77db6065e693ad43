"""The desk's first page: right figures in words, for those who may see them, with few queries."""

from __future__ import annotations

import re
import uuid

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from conftest import Buy, MakeProduct
from inventory import refusal_counts
from inventory.errors import SoldOut
from inventory.purchases import purchase
from inventory.tests.servers import OwnRedis
from shop.models import ProductAudit
from shop.roles import VIEWER, make_roles

pytestmark = pytest.mark.django_db(transaction=True)
FIGURES = "/admin/figures/"
MOST_QUERIES = 12


@pytest.fixture
def viewer() -> Client:
    make_roles(apps)
    user = User.objects.create_user(VIEWER, is_staff=True)
    user.groups.add(Group.objects.get(name=VIEWER))
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def text(page: bytes) -> str:
    """What a reader sees."""
    return " ".join(re.sub(r"<[^>]*>", " ", page.decode()).split())


def test_says_how_each_sale_stands(viewer: Client, make_product: MakeProduct, buy: Buy) -> None:
    product = make_product(units=40, hold_minutes=10)
    buy(product, quantity=4)

    page = text(viewer.get("/admin/").content)

    assert "36 of 40" in page
    assert "1 order, units: 4" in page
    assert "next ends in" in page
    assert "conditional" in page.lower()
    assert "No alerts." in page


def test_says_when_the_books_were_last_found_to_agree(
    viewer: Client, make_product: MakeProduct
) -> None:
    product = make_product()
    assert "audited" not in text(viewer.get(FIGURES).content)

    now = timezone.now()
    ProductAudit.objects.create(product=product, begun_at=now, finished_at=now)

    assert f"audited {now:%Y-%m-%d %H:%M}" in text(viewer.get(FIGURES).content)


def test_the_list_of_apps_stays_below(viewer: Client, make_product: MakeProduct) -> None:
    make_product()

    page = viewer.get("/admin/").content.decode()

    assert page.index('id="figures"') < page.index('id="content-main"')
    assert "/admin/inventory/movement/" in page


def test_the_page_of_one_app_has_no_figures(viewer: Client, make_product: MakeProduct) -> None:
    make_product()

    assert b'id="figures"' not in viewer.get("/admin/inventory/").content


def test_staff_who_may_not_see_products_see_no_figures(
    client: Client, make_product: MakeProduct
) -> None:
    make_product()
    user = User.objects.create_user("new", is_staff=True)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")

    assert b"Lamp" not in client.get("/admin/").content
    assert client.get(FIGURES).status_code == 403


def test_the_figures_alone_are_a_fragment_and_not_kept(
    viewer: Client, make_product: MakeProduct
) -> None:
    make_product(units=7)

    answer = viewer.get(FIGURES)

    assert b"<html" not in answer.content
    assert "7 of 7" in text(answer.content)
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.redis
def test_says_why_buyers_were_refused(viewer: Client, make_product: MakeProduct) -> None:
    product = make_product(units=0)
    for _ in range(3):
        with pytest.raises(SoldOut):
            purchase(slug=product.slug, quantity=1, buyer="guest:1", key=uuid.uuid4())
    refusal_counts._tally.add_up()

    assert "3 sold out: 3" in text(viewer.get(FIGURES).content)


def test_says_that_refusals_are_not_counted_without_redis(
    viewer: Client, make_product: MakeProduct, settings: Settings
) -> None:
    make_product()
    settings.CACHES = {"default": settings.CACHES["default"]}

    assert "not counted here" in text(viewer.get(FIGURES).content)


@pytest.mark.redis
def test_says_that_redis_does_not_answer(
    viewer: Client, make_product: MakeProduct, own_redis: OwnRedis
) -> None:
    make_product()
    own_redis.kill()

    page = text(viewer.get(FIGURES).content)

    assert "Redis does not answer" in page
    assert "10 of 10" in page


def test_an_alert_is_on_the_page_and_what_is_written_there_stays_text(
    viewer: Client, make_product: MakeProduct
) -> None:
    product = make_product(name="<b>Lamp</b>")
    ProductAudit.objects.create(
        product=product,
        begun_at=timezone.now(),
        finished_at=timezone.now(),
        findings=[{"code": "oversold", "text": "<i>never existed</i>"}],
        findings_total=1,
    )

    page = viewer.get(FIGURES).content.decode()

    assert "&lt;i&gt;never existed&lt;/i&gt;" in page
    assert "<b>Lamp" not in page
    assert 'class="grave"' in page


@pytest.mark.parametrize("path", ["/admin/", FIGURES])
def test_asks_little_however_many_products_there_are(
    viewer: Client, make_product: MakeProduct, path: str
) -> None:
    for number in range(15):
        make_product(f"lamp-{number}")
    viewer.get(path)

    with CaptureQueriesContext(connection) as seen:
        viewer.get(path)

    assert len(seen) <= MOST_QUERIES
