"""The operator's desk under asgi, where streamed answers are read in a thread."""

from __future__ import annotations

import json

import pytest
from django.conf import settings
from django.http import StreamingHttpResponse
from django.test import Client
from django.urls import reverse

from conftest import MakeProduct
from inventory.tests.test_desk_stock import long_history
from shop.serving import _read_here
from shop.tests.test_asgi import Reply, Visitor, visit

pytestmark = pytest.mark.django_db(transaction=True)


def test_sends_a_long_ledger_whole(admin_client: Client, make_product: MakeProduct) -> None:
    product = make_product(units=5000)
    long_history(product, sales=3000)
    address = reverse("admin:inventory_product_ledger_json", args=[product.pk])

    async def story(visitor: Visitor) -> Reply:
        name = settings.SESSION_COOKIE_NAME
        visitor.cookies[name] = admin_client.cookies[name].value
        return await visitor.get(address)

    reply = visit(story)

    assert reply.status == 200
    assert reply.header("Content-Type") == "application/json"
    assert len(reply.body) > settings.MAX_BODY_BYTES
    assert [row["version"] for row in json.loads(reply.body)] == list(range(1, 3002))


@pytest.mark.parametrize(("pieces", "streamed"), [(1, False), (200, True)])
def test_keeps_only_short_answers_in_memory(pieces: int, streamed: bool) -> None:
    piece = b"x" * 1024

    read = _read_here(StreamingHttpResponse([piece] * pieces, status=206))

    assert read.streaming is streamed
    assert read.status_code == 206
