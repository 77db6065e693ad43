"""The desk's first page and its door, and how staff come there."""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import timedelta

from django.apps import apps
from django.contrib.auth.models import Group, User
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from inventory import adjustments, refusal_counts
from inventory.models import Movement
from inventory.purchases import purchase
from shop.models import ProductAudit
from shop.roles import ROLES, VIEWER, make_roles
from shop.tests.browser.shop import Shop, come_signed_in

HOUR = timedelta(hours=1)
DESK = "admin:index"


def desk_login(shop: Shop, page: Page) -> None:
    """The door."""
    page.goto(reverse("admin:login"))


def desk_login_refused(shop: Shop, page: Page) -> None:
    """The answer to a wrong password."""
    desk_login(shop, page)
    page.locator("#id_username").fill("operator")
    page.locator("#id_password").fill("a wrong password")
    page.locator('#login-form [type="submit"]').click()
    expect(page.locator(".errornote")).to_be_visible()


def desk(shop: Shop, page: Page) -> None:
    """The sales as they stand: one of each state, with holds, refusals and alerts."""
    now = timezone.now()
    lamp = shop.offer(name="Brass lamp", units=120, hold_minutes=15, closes_at=now + HOUR)
    for number in range(4):
        purchase(slug=lamp.slug, quantity=5, buyer=f"guest:{number}", key=uuid.uuid4())
    shop.offer(name="Desk clock", units=40, opens_at=now + HOUR)
    kettle = shop.offer(name="Enamel kettle", units=30, strategy="group_commit")
    take(kettle.pk, 26)
    stool = shop.offer(name="Oak stool", units=8, strategy="redis_counter")
    take(stool.pk, 8)
    refused(stool.pk, sold_out=41, busy=2)
    found = [{"code": "writes_differ", "text": "Version 26 is followed by 28."}]
    ProductAudit.objects.create(
        product=kettle, begun_at=now, finished_at=now, findings=found, findings_total=1
    )
    come_as(page, VIEWER)


def desk_without_products(shop: Shop, page: Page) -> None:
    """The first page before anything is offered."""
    come_as(page, VIEWER)


def desk_without_redis(shop: Shop, page: Page) -> None:
    """What is known without Redis."""
    shop.offer(name="Brass lamp", units=12)
    shop.lose_redis()
    come_as(page, VIEWER)


def come_as(page: Page, role: str) -> User:
    """Open the desk as one of the staff, in this role or as a superuser."""
    make_roles(apps)
    page.goto(reverse("admin:login"))
    user = come_signed_in(page, f"{role}@shop.example")
    user.is_staff, user.is_superuser = True, role not in ROLES
    user.save()
    user.groups.set(Group.objects.filter(name=role))
    page.goto(reverse(DESK))
    expect(page.locator("#figures")).to_be_visible()
    return user


def take(product_id: int, units: int) -> None:
    """Take units off, as if they had been sold."""
    adjustments.adjust(
        product_id=product_id,
        delta=-units,
        kind=Movement.Kind.CORRECTION,
        reason="sold elsewhere",
        actor="test",
    )


def refused(product_id: int, **reasons: int) -> None:
    """Have buyers been refused in this second, as a web process adds it up."""
    found = Counter({(product_id, reason): times for reason, times in reasons.items()})
    refusal_counts._add(found)


ALL = (desk_login, desk_login_refused, desk, desk_without_products, desk_without_redis)
