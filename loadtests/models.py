"""Runs, with all that was seen of them."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class LoadRun(models.Model):
    """One load test of one strategy, and the audit of it; history, never edited."""

    class Status(models.TextChoices):
        RUNNING = "running"
        PASSED = "passed", "audit passed"
        FAILED = "failed", "audit failed"
        ABORTED = "aborted"

    strategy = models.CharField(max_length=32)
    server = models.CharField(max_length=16)
    database = models.CharField(max_length=64)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.RUNNING)
    units = models.PositiveIntegerField()
    buyers = models.PositiveIntegerField()
    concurrency = models.PositiveIntegerField(null=True, help_text="Buyers at a time.")
    within_s = models.FloatField(null=True, help_text="Arrivals spread over these seconds.")
    opening_available = models.IntegerField(help_text="The stock row's, before the load.")
    opening_version = models.PositiveBigIntegerField(help_text="The stock row's, before the load.")
    sold = models.PositiveIntegerField(null=True)
    oversold = models.PositiveIntegerField(null=True)
    sales_per_s = models.FloatField(
        null=True, help_text="Until sold out; empty when the audit failed."
    )
    result = models.JSONField(default=dict, help_text="Every figure, as in run_load --json.")
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        permissions = [("start_run", "Can start and cancel load runs")]

    def __str__(self) -> str:
        return f"run {self.pk}: {self.strategy}, {self.units} units for {self.buyers} buyers"
