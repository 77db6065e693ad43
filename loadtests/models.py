"""Runs and comparisons of them, with all that was seen, and the workers that play them."""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from django.db import models
from django.db.models import BooleanField, Case, Q, Value, When
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from inventory.clock import DatabaseNow

LOST_AFTER_S = 15
"""Who played a comparison and said nothing for so long, was killed."""


JUDGED_WITHIN_S = 180
"""What comes after a load: waiting for what was accepted, and the audit."""


def longest_s(*, buyers: int, within_s: float | None) -> float:
    """The longest a load may take before it is stopped."""
    return 60 + (within_s or 0) + 0.1 * buyers


def silent(beat_at: str) -> Q:
    """Say that the last heartbeat in this column is too old, by the database's clock."""
    return Q(**{f"{beat_at}__lt": DatabaseNow() - timedelta(seconds=LOST_AFTER_S)})


def _is(condition: Q) -> Case:
    return Case(
        When(condition, then=Value(True)), default=Value(False), output_field=BooleanField()
    )


class Worker(models.Model):
    """A `run_queued_loads` that is alive, for as long as its heartbeat is fresh."""

    name = models.CharField(max_length=128, unique=True)
    beat_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name

    @classmethod
    def any_alive(cls) -> bool:
        """Whether somebody would take what is queued."""
        return cls.objects.exclude(silent("beat_at")).exists()

    @classmethod
    def beat(cls, name: str) -> None:
        """Say that this worker is alive; a new one forgets those that are not."""
        if not cls.objects.filter(name=name).update(beat_at=DatabaseNow()):
            cls.objects.filter(silent("beat_at")).delete()
            cls.objects.create(name=name, beat_at=DatabaseNow())


class ComparisonQuerySet(models.QuerySet["Comparison"]):
    def lost(self) -> Self:
        """Those that nobody plays any longer, although nobody said so."""
        return self.filter(silent("beat_at"), status=Comparison.Status.RUNNING)

    def seen(self) -> Self:
        """Tell of each in `is_lost` whether it is lost, by the database's clock."""
        lost = Q(silent("beat_at"), status=Comparison.Status.RUNNING)
        return self.annotate(is_lost=_is(lost))


class Comparison(models.Model):
    """Strategies under one load, in rounds: asked for, played, and kept as history."""

    class Status(models.TextChoices):
        QUEUED = "queued", _("waiting")
        RUNNING = "running", _("running")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")
        LOST = "lost", _("lost")

    strategies = models.JSONField(_("strategies"))
    server = models.CharField(_("server"), max_length=16, default="wsgi")
    units = models.PositiveIntegerField(_("units"))
    buyers = models.PositiveIntegerField(_("buyers"))
    concurrency = models.PositiveIntegerField(_("buyers at a time"), null=True, blank=True)
    within_s = models.FloatField(_("or spread over seconds"), null=True, blank=True)
    rounds = models.PositiveSmallIntegerField(_("rounds"), default=1)
    generator = models.CharField(_("generator"), max_length=16, default="locust")
    status = models.CharField(
        _("status"), max_length=16, choices=Status.choices, default=Status.QUEUED
    )
    playing = models.BooleanField(
        null=True, unique=True, help_text="True of the one that runs: there cannot be two."
    )
    asked_by = models.CharField(_("asked for by"), max_length=150)
    created_at = models.DateTimeField(_("asked for at"), default=timezone.now)
    started_at = models.DateTimeField(_("started at"), null=True)
    finished_at = models.DateTimeField(_("finished at"), null=True)
    beat_at = models.DateTimeField(null=True, help_text="When its player last said that it lives.")
    step = models.CharField(max_length=64, help_text="“server”, “ceiling” or a strategy.")
    done = models.PositiveIntegerField(default=0, help_text="Buyers who were answered, of `of`.")
    of = models.PositiveIntegerField(default=0)
    cancel_asked = models.BooleanField(default=False)
    log = models.TextField(help_text="The end of what was said, when it failed.")
    unavailable = models.JSONField(default=dict, help_text="Strategies that cannot run, and why.")

    objects = ComparisonQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = _("comparison")
        verbose_name_plural = _("comparisons")

    def __str__(self) -> str:
        return f"{self.pk}: {', '.join(self.strategies)}"

    def state(self) -> Status:
        """Its status, and lost as soon as it is, if it came from `seen()`."""
        return self.Status.LOST if getattr(self, "is_lost", False) else self.Status(self.status)

    def is_over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state() not in (self.Status.QUEUED, self.Status.RUNNING)


class LoadRunQuerySet(models.QuerySet["LoadRun"]):
    def seen(self) -> Self:
        """Tell of each in `is_lost` whether its comparison's player died, by the database."""
        lost = Q(
            silent("comparison__beat_at"),
            status=LoadRun.Status.RUNNING,
            comparison__status=Comparison.Status.RUNNING,
        )
        return self.annotate(is_lost=_is(lost))


class LoadRun(models.Model):
    """One load test of one strategy, and the audit of it; history, never edited."""

    class Status(models.TextChoices):
        RUNNING = "running", _("running")
        PASSED = "passed", _("audit passed")
        FAILED = "failed", _("audit failed")
        ABORTED = "aborted", _("aborted")

    strategy = models.CharField(_("strategy"), max_length=32)
    server = models.CharField(_("server"), max_length=16)
    database = models.CharField(_("database"), max_length=64)
    status = models.CharField(
        _("audit"), max_length=16, choices=Status.choices, default=Status.RUNNING
    )
    units = models.PositiveIntegerField(_("units"))
    buyers = models.PositiveIntegerField(_("buyers"))
    concurrency = models.PositiveIntegerField(null=True, help_text="Buyers at a time.")
    within_s = models.FloatField(null=True, help_text="Arrivals spread over these seconds.")
    opening_available = models.IntegerField(help_text="The stock row's, before the load.")
    opening_version = models.PositiveBigIntegerField(help_text="The stock row's, before the load.")
    sold = models.PositiveIntegerField(_("sold"), null=True)
    oversold = models.PositiveIntegerField(_("oversold"), null=True)
    sales_per_s = models.FloatField(
        _("sales/s"), null=True, help_text="Until sold out; empty when the audit failed."
    )
    result = models.JSONField(default=dict, help_text="Every figure, as in run_load --json.")
    started_at = models.DateTimeField(_("started at"), default=timezone.now)
    finished_at = models.DateTimeField(_("finished at"), null=True)
    comparison = models.ForeignKey(
        Comparison, null=True, on_delete=models.PROTECT, related_name="runs"
    )
    round = models.PositiveSmallIntegerField(_("round"), default=1)
    ceiling_per_s = models.FloatField(
        null=True, help_text="Answers a second of a page that does nothing, in the same round."
    )

    objects = LoadRunQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = _("load run")
        verbose_name_plural = _("load runs")
        permissions = [("start_run", "Can start and cancel load runs")]

    def __str__(self) -> str:
        run = {"pk": self.pk, "strategy": self.strategy, "units": self.units, "buyers": self.buyers}
        return gettext("run %(pk)s: %(strategy)s, %(units)s units for %(buyers)s buyers") % run

    def state(self) -> Status:
        """Its status, and aborted as soon as its player is lost, if it came from `seen()`."""
        lost = getattr(self, "is_lost", False) or self._is_overdue()
        return self.Status.ABORTED if lost else self.Status(self.status)

    def _is_overdue(self) -> bool:
        """Whether nobody can be at it any more: for runs of their own, which have no heartbeat."""
        most_s = longest_s(buyers=self.buyers, within_s=self.within_s) + JUDGED_WITHIN_S
        running = self.status == self.Status.RUNNING and self.comparison_id is None
        return running and timezone.now() > self.started_at + timedelta(seconds=most_s)

    def share_of_ceiling(self) -> float | None:
        """Its speed as a part of the ceiling's; None where either is missing."""
        if not self.sales_per_s or not self.ceiling_per_s:
            return None
        return self.sales_per_s / self.ceiling_per_s
