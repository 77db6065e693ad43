"""What the shop remembers of its mails, and of alerts to the operators."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models

from inventory.models import Order, Product


class Confirmation(models.Model):
    """That one process has set out to tell an order's buyer of it; at most one row per order."""

    order = models.OneToOneField(
        Order, on_delete=models.CASCADE, primary_key=True, db_constraint=False
    )
    attempts = models.PositiveSmallIntegerField(default=1)
    due_at = models.DateTimeField(
        null=True, db_index=True, help_text="When to try again unless it was sent; empty: never."
    )
    sent_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.order_id}: {self.attempts} attempts"


class MailLanguage(models.Model):
    """The language in which a user signed in last; mails sent later are written in it."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True
    )
    language = models.CharField(max_length=16)

    def __str__(self) -> str:
        return f"{self.user_id}: {self.language}"


class ProductAudit(models.Model):
    """The last audit of a product that `send_alerts` made."""

    product = models.OneToOneField(Product, on_delete=models.CASCADE, primary_key=True)
    begun_at = models.DateTimeField(help_text="No other audit begins soon after.")
    finished_at = models.DateTimeField(null=True, help_text="When the findings were true.")
    findings = models.JSONField(default=list, help_text="The first of them: code and text.")
    findings_total = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.product_id}: {self.findings_total} findings"


class AlertState(models.Model):
    """What the senders remember of one kind of alert about one product."""

    product = models.ForeignKey(Product, on_delete=models.CASCADE)
    kind = models.CharField(max_length=32)
    text = models.CharField(max_length=500)
    first_seen_at = models.DateTimeField(help_text="Since when it is seen without a break.")
    last_seen_at = models.DateTimeField()
    is_on = models.BooleanField(default=False, help_text="Its beginning was told, its end not.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["product", "kind"], name="alert_state_one_per_kind"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.product_id}: {'on' if self.is_on else 'off'}"


class AlertNotice(models.Model):
    """That an alert began or ended, to be told on one channel."""

    class Channel(models.TextChoices):
        EMAIL = "email"
        WEBHOOK = "webhook"

    class Event(models.TextChoices):
        BEGAN = "began"
        ENDED = "ended"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    channel = models.CharField(max_length=16, choices=Channel.choices)
    recipient = models.CharField(max_length=254, help_text="A mail's address.")
    event = models.CharField(max_length=16, choices=Event.choices)
    kind = models.CharField(max_length=32)
    product = models.ForeignKey(Product, on_delete=models.CASCADE)
    text = models.CharField(max_length=500)
    happened_at = models.DateTimeField()
    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(
        null=True, db_index=True, help_text="When to try; empty: sent, or given up."
    )
    sent_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.kind} of {self.product_id} {self.event}, by {self.channel}"
