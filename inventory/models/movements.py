"""The ledger: the book of all writes of stock rows."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from inventory.models.orders import Order
from inventory.models.products import Product


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
