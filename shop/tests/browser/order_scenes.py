"""Orders in every state, and the page of the payment provider."""

from __future__ import annotations

import uuid
from decimal import Decimal

from django.urls import reverse
from playwright.sync_api import Page, expect

from inventory import holds
from inventory.clock import MinutesFromNow
from inventory.models import Order, Product
from inventory.purchases import purchase
from shop.tests.browser.shop import (
    Shop,
    buy_button,
    buyer_of,
    cancel_button,
    expect_order,
    expect_state,
    pay_button,
    visit,
)
from shop.views.orders import ORDERS_ON_A_PAGE


def order(shop: Shop, page: Page) -> None:
    """What someone bought."""
    visit(page, shop.offer())
    buy_button(page).click()
    expect_order(page)


def order_held(shop: Shop, page: Page) -> None:
    """An order that waits to be paid."""
    visit(page, shop.offer(price="149.00", hold_minutes=10))
    buy_button(page).click()
    expect_order(page)
    expect_state(page, "held")


def order_paid(shop: Shop, page: Page) -> None:
    """An order that was paid."""
    order_held(shop, page)
    pay_button(page).click()
    expect_state(page, "paid")


def order_cancelled(shop: Shop, page: Page) -> None:
    """An order that its buyer called off."""
    order_held(shop, page)
    cancel_button(page).click()
    expect_state(page, "cancelled")


def order_expired(shop: Shop, page: Page) -> None:
    """An order that was not paid in time."""
    order_held(shop, page)
    Order.objects.update(expires_at=MinutesFromNow(-1))
    page.reload()
    expect_state(page, "expired")


def order_paid_too_late(shop: Shop, page: Page) -> None:
    """The answer to someone who pays an order that is held no longer."""
    order_held(shop, page)
    Order.objects.update(expires_at=MinutesFromNow(-1))
    shop.watch.allow("^409 POST .*/pay/$")
    pay_button(page).click()
    expect(page.get_by_role("alert")).to_be_visible()


def payment(shop: Shop, page: Page) -> None:
    """The payment provider's own page."""
    order_held(shop, page)
    page.locator('button[name="at"]').click()
    expect(page.locator('button[name="confirmation"]').first).to_be_visible()


def payment_declined(shop: Shop, page: Page) -> None:
    """An order whose payment was declined."""
    payment(shop, page)
    page.locator('button[name="confirmation"].secondary').click()
    expect(page.get_by_role("alert")).to_be_visible()


def orders(shop: Shop, page: Page) -> None:
    """All that someone bought, in every state and on two pages."""
    page.goto(reverse("order-list"))
    buyer = buyer_of(page)
    bought = shop.offer(name="Enamel kettle", price="64.00", units=100)
    for _ in range(ORDERS_ON_A_PAGE):
        sell(bought, buyer)
    price = Decimal("149.00")
    held = shop.offer(name="Brass lamp", price=price, hold_minutes=10)
    paid, cancelled, expired, _ = (sell(held, buyer) for _ in range(4))
    holds.pay(reference=paid, provider="test", provider_reference="1", amount=price)
    holds.cancel(reference=cancelled, buyer=buyer)
    Order.objects.filter(pk=expired).update(expires_at=MinutesFromNow(-1))
    page.reload()
    expect(page.locator(".row")).to_have_count(ORDERS_ON_A_PAGE)
    for state in ("held", "paid", "cancelled", "expired"):
        expect(page.locator(f".row .state.{state}")).to_have_count(1)


def orders_last_page(shop: Shop, page: Page) -> None:
    """The oldest of them."""
    orders(shop, page)
    page.locator('a[rel="next"]').click()
    expect(page.locator('a[rel="prev"]')).to_be_visible()


def orders_without_any(shop: Shop, page: Page) -> None:
    """The orders of someone who bought nothing."""
    page.goto(reverse("order-list"))


def sell(product: Product, buyer: str) -> uuid.UUID:
    """Sell one unit; the order's reference."""
    receipt = purchase(slug=product.slug, quantity=1, buyer=buyer, key=uuid.uuid4())
    return receipt.order


ALL = (
    order,
    order_held,
    order_paid,
    order_cancelled,
    order_expired,
    order_paid_too_late,
    payment,
    payment_declined,
    orders,
    orders_last_page,
    orders_without_any,
)
