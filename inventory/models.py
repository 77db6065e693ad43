"""Products, the one stock row each that counts, and the two books kept of it."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Self

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from inventory.clock import DatabaseNow

CONTROL = "unguarded"
"""The control strategy, which oversells: only lab products may name it."""


class ProductQuerySet(models.QuerySet["Product"]):
    def for_sale(self) -> Self:
        """Leave out the load lab's own products."""
        return self.filter(is_lab=False)


class Product(models.Model):
    """What is sold: its price, its sale window, and the strategy its sales take."""

    class SaleState(models.TextChoices):
        OPENS = "opens", _("Not open yet")
        OPEN = "open", _("On sale")
        SOLD_OUT = "sold_out", _("Sold out")
        ENDED = "ended", _("Sale ended")

    slug = models.SlugField(_("address name"), unique=True)
    name = models.CharField(_("name"), max_length=120)
    description = models.TextField(_("description"), blank=True)
    price = models.DecimalField(
        _("price"),
        max_digits=10,
        decimal_places=2,
        validators=[MinValueValidator(0)],
        help_text=_("In euro."),
    )
    opens_at = models.DateTimeField(
        _("opens at"), null=True, blank=True, help_text=_("Empty: open already.")
    )
    closes_at = models.DateTimeField(
        _("closes at"), null=True, blank=True, help_text=_("Empty: never closes.")
    )
    limit_per_buyer = models.PositiveIntegerField(
        _("limit per buyer"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("Units one buyer may own; empty: no limit."),
    )
    hold_minutes = models.PositiveSmallIntegerField(
        _("minutes held"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(24 * 60)],
        help_text=_("Minutes a unit is held for payment; empty: sold at once."),
    )
    admitted_per_minute = models.PositiveIntegerField(
        _("admitted per minute"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("Buyers let in from the waiting room each minute; empty: no waiting room."),
    )
    image = models.ImageField(_("picture"), upload_to="products/", blank=True)
    strategy = models.CharField(_("strategy"), max_length=32, default="conditional_update")
    is_lab = models.BooleanField(
        _("lab product"),
        default=False,
        help_text=_("For load runs only: hidden from the shop's list."),
    )
    run_until = models.DateTimeField(
        null=True, blank=True, editable=False, help_text=_("A load run holds it until then.")
    )

    objects = ProductQuerySet.as_manager()

    class Meta:
        verbose_name = _("product")
        verbose_name_plural = _("products")
        ordering = ["name"]
        permissions = [("correct_stock", "Can restock, correct, reset and audit stock")]
        constraints = [
            models.CheckConstraint(
                condition=~Q(strategy=CONTROL) | Q(is_lab=True),
                name="product_control_only_in_lab",
                violation_error_message=_("The control oversells: only lab products may use it."),
            ),
            models.CheckConstraint(
                condition=Q(opens_at__isnull=True)
                | Q(closes_at__isnull=True)
                | Q(closes_at__gt=F("opens_at")),
                name="product_closes_after_it_opens",
                violation_error_message=_("The sale must close after it opens."),
            ),
            models.CheckConstraint(condition=Q(price__gte=0), name="product_price_not_negative"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def available(self) -> int:
        """Units left to sell; 0 without a stock row."""
        return self.stock.available if hasattr(self, "stock") else 0

    def sale_state(self, now: datetime) -> SaleState:
        """Say whether it can be bought, by its window and its stock row."""
        if self.opens_at is not None and now < self.opens_at:
            return self.SaleState.OPENS
        if self.closes_at is not None and now >= self.closes_at:
            return self.SaleState.ENDED
        return self.SaleState.OPEN if self.available > 0 else self.SaleState.SOLD_OUT

    def is_held_by_a_run(self, now: datetime) -> bool:
        """Whether a load run is on, so that its stock must not be reset."""
        return self.run_until is not None and self.run_until > now


class Stock(models.Model):
    """
    The one row per product that counts.

    Written only by guarded `update()`s whose row count decides, each with one
    movement. Never by `save()`: a whole-row save erases concurrent sales.
    """

    product = models.OneToOneField(
        Product, verbose_name=_("product"), on_delete=models.CASCADE, primary_key=True
    )
    available = models.IntegerField(_("available"), default=0)
    version = models.PositiveBigIntegerField(_("version"), default=0)

    class Meta:
        verbose_name = _("stock")
        verbose_name_plural = _("stock")
        constraints = [
            models.CheckConstraint(
                condition=Q(available__gte=0), name="stock_available_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.available} available at version {self.version}"


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


class Movement(models.Model):
    """One ledger row per write of a stock row: never changed, never deleted."""

    class Kind(models.TextChoices):
        SALE = "sale", _("Sale")
        RESTOCK = "restock", _("Restock")
        CORRECTION = "correction", _("Correction")
        RESET = "reset", _("Reset")
        CANCELLATION = "cancellation", _("Cancellation")
        EXPIRY = "expiry", _("Expiry")

    product = models.ForeignKey(
        Product,
        verbose_name=_("product"),
        on_delete=models.PROTECT,
        related_name="movements",
        db_index=False,
    )
    version = models.PositiveBigIntegerField(_("version"))
    kind = models.CharField(_("kind"), max_length=16, choices=Kind.choices)
    delta = models.IntegerField(_("delta"))
    available_after = models.IntegerField(_("available after"))
    order = models.ForeignKey(
        Order,
        verbose_name=_("order"),
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="movements",
    )
    reason = models.CharField(_("reason"), max_length=200, blank=True)
    actor = models.CharField(
        _("actor"), max_length=64, help_text=_("Who wrote it: a buyer, a user, a command.")
    )
    created_at = models.DateTimeField(_("created at"), default=timezone.now)

    class Meta:
        verbose_name = _("movement")
        verbose_name_plural = _("movements")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["product", "kind", "version"], name="movement_of_kind"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["product", "version"], name="movement_one_per_product_and_version"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.delta:+d} to {self.available_after}"
