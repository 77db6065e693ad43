"""The operator's desk: a product's pages and its orders, in every state."""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from inventory import adjustments, holds
from inventory.clock import MinutesFromNow
from inventory.models import Movement, Order, Product, Stock
from inventory.purchases import purchase
from shop.tests.browser.shop import Shop

OPERATOR = "ada@example.org"
PERMISSIONS = (
    "view_product",
    "change_product",
    "view_order",
    "view_movement",
    "correct_stock",
    "cancel_order",
)
WHY = "Spun brass came, counted underneath."


def come_as_operator(page: Page, address: str = OPERATOR) -> User:
    """Let a page's visitor be an operator who signed in already."""
    user = User.objects.create_user(address, address, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=PERMISSIONS))
    client = Client()
    client.force_login(user, backend=settings.AUTHENTICATION_BACKENDS[-1])
    page.goto("/healthz")
    name = settings.SESSION_COOKIE_NAME
    origin = page.evaluate("location.origin")
    page.context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": origin}])
    return user


def sold_product(shop: Shop, user: User) -> Product:
    """A product with a history: bought, restocked, corrected, given back."""
    product = shop.offer(units=60, price="149.00")
    for number in range(14):
        buy(product, quantity=1 + number % 3)
    for kind, delta in ((Movement.Kind.RESTOCK, 40), (Movement.Kind.CORRECTION, -2)):
        adjustments.adjust(
            product_id=product.pk, delta=delta, kind=kind, reason=WHY, actor=f"user:{user.pk}"
        )
        for number in range(6):
            buy(product, quantity=1 + number % 2)
    return product


def buy(product: Product, *, quantity: int = 1, buyer: str = "") -> Order:
    """Buy as a guest, without a browser."""
    receipt = purchase(
        slug=product.slug,
        quantity=quantity,
        buyer=buyer or f"guest:{uuid.uuid4()}",
        key=uuid.uuid4(),
    )
    return Order.objects.get(pk=receipt.order)


def open_product(page: Page, product: Product, name: str = "change") -> None:
    """Open a page of a product at the desk."""
    page.goto(reverse(f"admin:inventory_product_{name}", args=[product.pk]))


def desk_product(shop: Shop, page: Page) -> None:
    """A product's stock, its history and its settings."""
    product = sold_product(shop, come_as_operator(page))
    for movement in Movement.objects.filter(product=product):
        at = timezone.now() - timedelta(minutes=7 * (30 - movement.version))
        Movement.objects.filter(pk=movement.pk).update(created_at=at)
    open_product(page, product)
    expect(page.locator("canvas")).to_be_visible()


def desk_ledger(shop: Shop, page: Page) -> None:
    """A product's ledger."""
    product = sold_product(shop, come_as_operator(page))
    open_product(page, product, "ledger")


def desk_ledger_refused(shop: Shop, page: Page) -> None:
    """A ledger asked for days that are none."""
    product = sold_product(shop, come_as_operator(page))
    shop.watch.allow("^400 GET .*/ledger/")
    page.goto(
        reverse("admin:inventory_product_ledger", args=[product.pk])
        + "?since=2030-01-02&until=2030-01-01"
    )


def desk_adjust(shop: Shop, page: Page) -> None:
    """Units to add or to take, before anything is answered."""
    open_product(page, sold_product(shop, come_as_operator(page)), "adjust")


def desk_adjust_confirm(shop: Shop, page: Page) -> None:
    """Before and after, for the second time: the stock moved meanwhile."""
    product = sold_product(shop, come_as_operator(page))
    open_product(page, product, "adjust")
    page.locator("[name=delta]").fill("-3")
    page.locator("[name=kind]").select_option("correction")
    page.locator("[name=reason]").fill(WHY)
    page.locator("[name=check]").click()
    buy(product)
    page.locator("[name=apply]").click()
    expect(page.locator(".note")).to_be_visible()


def desk_reset_refused(shop: Shop, page: Page) -> None:
    """A reset to a number that cannot be."""
    open_product(page, sold_product(shop, come_as_operator(page)), "reset")
    page.locator("[name=units]").fill("99999999999")
    page.locator("[name=reason]").fill(WHY)
    page.locator("form:has([name=units])").evaluate("form => form.noValidate = true")
    page.locator("[name=check]").click()
    expect(page.locator(".errorlist")).to_be_visible()


def desk_audit(shop: Shop, page: Page) -> None:
    """An audit that found the books to agree."""
    open_product(page, sold_product(shop, come_as_operator(page)), "audit")
    page.locator("#content-main form input[type=submit]").click()
    expect(page.locator("#found")).to_be_visible()


def desk_audit_findings(shop: Shop, page: Page) -> None:
    """An audit that found something."""
    product = sold_product(shop, come_as_operator(page))
    Stock.objects.filter(product=product).update(available=7)
    open_product(page, product, "audit")
    page.locator("#content-main form input[type=submit]").click()
    expect(page.locator("#found")).to_be_visible()


def desk_movements(shop: Shop, page: Page) -> None:
    """The movements of all products."""
    sold_product(shop, come_as_operator(page))
    page.goto(reverse("admin:inventory_movement_changelist"))


def desk_orders(shop: Shop, page: Page) -> None:
    """Orders in every state."""
    come_as_operator(page)
    product = shop.offer(units=60, price="149.00", hold_minutes=10)
    orders = [buy(product, quantity=1 + n % 2) for n in range(6)]
    paid(orders[0])
    holds.cancel_for_buyer(reference=orders[1].pk, reason=WHY, actor="user:1")
    Order.objects.filter(pk__in=[orders[2].pk, orders[3].pk]).update(expires_at=MinutesFromNow(-1))
    holds.release_expired(limit=1)
    page.goto(reverse("admin:inventory_order_changelist"))


def paid(order: Order) -> None:
    """Let an order be paid."""
    holds.pay(
        reference=order.pk, provider="bank", provider_reference=order.pk.hex, amount=order.total
    )


def desk_order_held(shop: Shop, page: Page) -> None:
    """An order that waits to be paid."""
    come_as_operator(page)
    order = buy(shop.offer(price="149.00", hold_minutes=10))
    page.goto(reverse("admin:inventory_order_change", args=[order.pk]))


def desk_order_cancel(shop: Shop, page: Page) -> None:
    """The question before a paid order is cancelled."""
    come_as_operator(page)
    order = buy(shop.offer(price="149.00", hold_minutes=10), quantity=2)
    paid(order)
    page.goto(reverse("admin:inventory_order_cancel", args=[order.pk]))


def desk_order_cancelled(shop: Shop, page: Page) -> None:
    """An order that an operator cancelled after it was paid."""
    desk_order_cancel(shop, page)
    page.locator("[name=reason]").fill(WHY)
    page.locator("#content-main form input[type=submit]").click()
    expect(page.locator(".timeline")).to_be_visible()


ALL = (
    desk_product,
    desk_ledger,
    desk_ledger_refused,
    desk_adjust,
    desk_adjust_confirm,
    desk_reset_refused,
    desk_audit,
    desk_audit_findings,
    desk_movements,
    desk_orders,
    desk_order_held,
    desk_order_cancel,
    desk_order_cancelled,
)
