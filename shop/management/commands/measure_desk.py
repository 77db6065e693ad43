from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from inventory.models import Movement, Order, Product

FAVOURITE = "history-0"
"""The product that seed_history gives most of the orders."""
MOST_MS = 300
MOST_QUERIES = 12
LARGE = 1000
"""Rows; a plan that reads more of a table than that from end to end is a full scan."""
READ_WHOLE = ("ALL", "index")
"""What EXPLAIN calls reading a table, or one of its indexes, from end to end."""
MEASURER = "measure-desk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What one page of the desk cost."""

    name: str
    status: int
    ms: float
    queries: int
    scans: list[str]
    plans: list[str]

    def kept_the_bars(self) -> bool:
        """Whether it is fast enough, and would stay so with more rows."""
        fast = self.ms <= MOST_MS and self.queries <= MOST_QUERIES
        return self.status == 200 and fast and not self.scans


class Command(BaseCommand):
    help = (
        "Open every page of the desk as a superuser, after seed_history: milliseconds (median),"
        f" queries, and full scans by EXPLAIN. Exit 1 over {MOST_MS} ms or {MOST_QUERIES} queries."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--times", type=int, default=5, help="How often each is opened.")
        parser.add_argument("--plans", action="store_true", help="Print each query's plan.")

    def handle(self, *args: Any, times: int, plans: bool, **options: Any) -> None:
        """Measure, print, and tell in the exit code."""
        if connection.vendor != "mysql":
            raise CommandError("The plans are MariaDB's and MySQL's: run this on one of them.")
        users = get_user_model().objects
        user = users.create_superuser(username=MEASURER, password=None)
        try:
            client = Client(SERVER_NAME=settings.ALLOWED_HOSTS[0])
            client.force_login(user, backend=settings.AUTHENTICATION_BACKENDS[-1])
            pages = [_measure(client, *page, times=times) for page in _addresses()]
        finally:
            users.filter(pk=user.pk).delete()
        for page in pages:
            self._print(page, plans=plans)
        if not all(page.kept_the_bars() for page in pages):
            raise SystemExit(1)

    def _print(self, page: Page, *, plans: bool) -> None:
        verdict = "" if page.kept_the_bars() else "  ← over the bar"
        self.stdout.write(f"{page.ms:6.0f} ms {page.queries:3} queries  {page.name}{verdict}")
        for line in [*page.scans, *(page.plans if plans else [])]:
            self.stdout.write(f"         {line}")


def _addresses() -> Iterator[tuple[str, str]]:
    """Every page, by what it is called: of the largest product, and far from the newest rows."""
    product = Product.objects.filter(slug=FAVOURITE).first()
    if product is None:
        raise CommandError("There is no history to look at: run seed_history first.")
    yield "the desk", reverse("admin:index")
    yield "the desk, refreshed", reverse("admin:figures")
    yield "products", reverse("admin:inventory_product_changelist")
    yield "product", reverse("admin:inventory_product_change", args=[product.pk])
    for name in ("history", "adjust", "reset", "audit"):
        yield f"product, {name}", reverse(f"admin:inventory_product_{name}", args=[product.pk])
    yield from _ledger_addresses(product)
    yield from _order_addresses(product)
    yield "movements", reverse("admin:inventory_movement_changelist")
    yield from _lab_addresses()


def _lab_addresses() -> Iterator[tuple[str, str]]:
    """The lab's lists, and the newest of each that there is."""
    for name in ("loadrun", "comparison"):
        model = apps.get_model("loadtests", name)
        yield f"{name}s", reverse(f"admin:loadtests_{name}_changelist")
        newest = model._default_manager.order_by("-pk").values_list("pk", flat=True)
        for pk in newest[:1]:
            yield name, reverse(f"admin:loadtests_{name}_change", args=[pk])
    ids = apps.get_model("loadtests", "loadrun")._default_manager.values_list("pk", flat=True)
    if some := ",".join(map(str, ids.order_by("-pk")[:10])):
        yield "ten runs compared", f"{reverse('admin:loadtests_compare')}?ids={some}"


def _ledger_addresses(product: Product) -> Iterator[tuple[str, str]]:
    ledger = reverse("admin:inventory_product_ledger", args=[product.pk])
    middle = Movement.objects.filter(product=product).order_by("-version")[0].version // 2
    yield "ledger", ledger
    yield "ledger, in the middle", f"{ledger}?older_than={middle}"
    for kind in Movement.Kind:
        yield f"ledger, {kind}", f"{ledger}?kind={kind}"
    day = timezone.localdate() - timedelta(days=45)
    yield "ledger, of a day", f"{ledger}?since={day}&until={day}"
    yield "ledger, of a kind and a day", f"{ledger}?kind=restock&since={day}&until={day}"


def _order_addresses(product: Product) -> Iterator[tuple[str, str]]:
    orders = reverse("admin:inventory_order_changelist")
    old = timezone.now() - timedelta(days=45)
    order = Order.objects.filter(product=product, created_at__lt=old).order_by("-created_at")[0]
    older = urlencode({"older_than": f"{order.created_at.isoformat()},{order.pk}"})
    yield "orders", orders
    yield "orders, in the middle", f"{orders}?{older}"
    yield "orders of a product", f"{orders}?product={product.pk}"
    yield "orders of a product, in the middle", f"{orders}?product={product.pk}&{older}"
    for status in (*Order.Status, "overdue"):
        yield f"orders, {status}", f"{orders}?status={status}"
        yield f"orders of a product, {status}", f"{orders}?product={product.pk}&status={status}"
    yield "orders, by reference", f"{orders}?q={order.pk}"
    yield "orders, by buyer", f"{orders}?q={order.buyer}"
    yield "order", reverse("admin:inventory_order_change", args=[order.pk])
    yield "order, cancel", reverse("admin:inventory_order_cancel", args=[order.pk])


def _measure(client: Client, name: str, address: str, *, times: int) -> Page:
    spent_ms = []
    for _ in range(times):
        begun = time.perf_counter()
        status = client.get(address, secure=settings.HTTPS).status_code
        spent_ms.append(1000 * (time.perf_counter() - begun))
    with CaptureQueriesContext(connection) as captured:
        client.get(address, secure=settings.HTTPS)
    asked = [query["sql"] for query in captured.captured_queries]
    plans = [plan for sql in asked if sql.startswith("SELECT") for plan in _plan(sql)]
    return Page(
        name=name,
        status=status,
        ms=median(spent_ms),
        queries=len(asked),
        scans=[f"full scan of {p['table']}, {p['rows']} rows" for p in plans if _is_scan(p)],
        plans=[f"{p['type']} {p['table']} by {p['key']}, {p['rows']} rows" for p in plans],
    )


def _plan(sql: str) -> list[dict[str, Any]]:
    """How the database would run a query, a line for each table."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}".replace("%", "%%"))
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _is_scan(plan: dict[str, Any]) -> bool:
    return plan["type"] in READ_WHOLE and int(plan["rows"] or 0) > LARGE
