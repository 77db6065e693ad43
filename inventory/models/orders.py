"""The book of orders, and what was paid for them."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Self

from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from inventory.clock import DatabaseNow
from inventory.models.products import Product


class OrderQuerySet(models.QuerySet["Order"]):
    def with_state(self) -> Self:
        """
        Add `state`, the status by the database's clock, and `now`, which that is.

        A hold whose time is over counts as expired before it is released.
        """
        over = When(
            status=Order.Status.HELD,
            expires_at__lte=DatabaseNow(),
            then=Value(Order.Status.EXPIRED),
        )
        return self.annotate(now=DatabaseNow(), state=Case(over, default=F("status")))


class Order(models.Model):
    """One buyer's purchase; found again by its key forever."""

    class Status(models.TextChoices):
        CONFIRMED = "confirmed", _("Confirmed")
        HELD = "held", _("Held")
        PAID = "paid", _("Paid")
        CANCELLED = "cancelled", _("Cancelled")
        EXPIRED = "expired", _("Expired")

    reference = models.UUIDField(
        _("reference"), primary_key=True, default=uuid.uuid4, editable=False
    )
    product = models.ForeignKey(
        Product,
        verbose_name=_("product"),
        on_delete=models.PROTECT,
        related_name="orders",
        db_index=False,
    )
    buyer = models.CharField(_("buyer"), max_length=48, help_text=_("user:<id> or guest:<uuid>"))
    key = models.UUIDField(_("idempotency key"))
    quantity = models.PositiveIntegerField(_("quantity"))
    unit_price = models.DecimalField(_("unit price"), max_digits=10, decimal_places=2)
    status = models.CharField(
        _("status"), max_length=16, choices=Status.choices, default=Status.CONFIRMED
    )
    strategy = models.CharField(_("strategy"), max_length=32)
    attempts = models.PositiveIntegerField(
        _("attempts"), default=1, help_text=_("Transactions it took to sell.")
    )
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    expires_at = models.DateTimeField(
        _("expires at"),
        null=True,
        blank=True,
        help_text=_("Until when it can be paid, by the database's clock."),
    )

    state: str
    """The status by the database's clock; see with_state()."""
    now: datetime
    """The database's clock; see with_state()."""

    objects = OrderQuerySet.as_manager()

    class Meta:
        verbose_name = _("order")
        verbose_name_plural = _("orders")
        ordering = ["-created_at"]
        permissions = [("cancel_order", "Can cancel an order for its buyer")]
        indexes = [
            models.Index(fields=["-created_at"], name="order_newest_first"),
            models.Index(fields=["product", "created_at"], name="order_of_product"),
            models.Index(fields=["status", "created_at"], name="order_of_status"),
            models.Index(fields=["status", "expires_at"], name="order_first_to_expire"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["buyer", "key"], name="order_one_per_buyer_and_key"),
            models.CheckConstraint(condition=Q(quantity__gte=1), name="order_quantity_positive"),
        ]

    def __str__(self) -> str:
        return str(self.reference)

    @property
    def total(self) -> Decimal:
        """Quantity times the price valid when it was sold, in euro."""
        return self.quantity * self.unit_price


class Payment(models.Model):
    """A provider's confirmation that an order was paid; found again by its reference there."""

    class Status(models.TextChoices):
        CONFIRMED = "confirmed", _("Confirmed")
        REFUND_DUE = "refund_due", _("Refund due")

    order = models.ForeignKey(
        Order, verbose_name=_("order"), on_delete=models.PROTECT, related_name="payments"
    )
    provider = models.CharField(_("provider"), max_length=32)
    provider_reference = models.CharField(_("provider's reference"), max_length=64)
    amount = models.DecimalField(
        _("amount"), max_digits=12, decimal_places=2, help_text=_("In euro.")
    )
    status = models.CharField(_("status"), max_length=16, choices=Status.choices)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)

    class Meta:
        verbose_name = _("payment")
        verbose_name_plural = _("payments")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "provider_reference"], name="payment_one_per_confirmation"
            ),
        ]

    def __str__(self) -> str:
        return f"€ {self.amount} by {self.provider}, {self.status}"
