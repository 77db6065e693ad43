"""Products, and the one stock row each that counts."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

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
