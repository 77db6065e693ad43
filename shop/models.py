"""What the shop remembers of its mails."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from inventory.models import Order


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
