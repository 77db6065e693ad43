"""What an operator should know of: judged from the figures of the desk's first page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from django.conf import settings
from django.db import models
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from inventory.models import Product
from inventory.overview import Figures, ProductFigures
from shop.models import ProductAudit

SaleState = Product.SaleState


class Kind(models.TextChoices):
    """The kinds of alerts, in the order in which they are shown."""

    AUDIT = "audit", gettext_lazy("The books disagree")
    COUNTER_DRIFT = "counter_drift", gettext_lazy("The counter is wrong")
    CONSUMER_LAG = "consumer_lag", gettext_lazy("Purchases wait to be committed")
    SOLD_OUT = "sold_out", gettext_lazy("Sold out")
    LOW_STOCK = "low_stock", gettext_lazy("Few units left")


FROM_REDIS = frozenset({Kind.COUNTER_DRIFT, Kind.CONSUMER_LAG})


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something is so just now with a product."""

    kind: Kind
    product: Product
    text: str


def alerts_in(figures: Figures, audits: Mapping[int, ProductAudit]) -> list[Alert]:
    """List all that is so, the gravest first. `audits` are the last of each product, by its id."""
    found = [
        alert
        for line in figures.products
        for alert in [*_stock(line), *_queue(line), *_audit(line, audits.get(line.product.pk))]
    ]
    gravity = list(Kind)
    return sorted(found, key=lambda alert: gravity.index(alert.kind))


def unknown_in(figures: Figures) -> frozenset[Kind]:
    """Name the kinds of which nothing can be said, for Redis does not answer."""
    return FROM_REDIS if figures.has_redis and not figures.redis_answers else frozenset()


def last_audits() -> dict[int, ProductAudit]:
    """Read the last finished audit of each product."""
    return {audit.pk: audit for audit in ProductAudit.objects.exclude(finished_at=None)}


def _stock(line: ProductFigures) -> Iterator[Alert]:
    """What is sold out is low as well, so that the one does not end where the other begins."""
    if line.state not in (SaleState.OPEN, SaleState.SOLD_OUT):
        return
    if line.state == SaleState.SOLD_OUT:
        text = _("No unit is left.")
        if line.units_held:
            text = ngettext(
                "No unit is left; %(n)d is held and may come back.",
                "No unit is left; %(n)d are held and may come back.",
                line.units_held,
            ) % {"n": line.units_held}
        yield Alert(kind=Kind.SOLD_OUT, product=line.product, text=text)
    if line.available <= settings.ALERT_LOW_STOCK_UNITS and line.available < line.filled_to:
        text = ngettext(
            "%(n)d unit is left of %(whole)d.", "%(n)d units are left of %(whole)d.", line.available
        ) % {"n": line.available, "whole": line.filled_to}
        yield Alert(kind=Kind.LOW_STOCK, product=line.product, text=text)


def _queue(line: ProductFigures) -> Iterator[Alert]:
    queue = line.queue
    if queue is not None and (
        queue.length > settings.ALERT_LAG_ENTRIES or queue.oldest_s > settings.ALERT_LAG_S
    ):
        text = ngettext(
            "%(n)d accepted purchase waits to be committed, for %(seconds)d s."
            " Is commit_purchases running?",
            "%(n)d accepted purchases wait to be committed, the oldest for %(seconds)d s."
            " Is commit_purchases running?",
            queue.length,
        ) % {"n": queue.length, "seconds": queue.oldest_s}
        yield Alert(kind=Kind.CONSUMER_LAG, product=line.product, text=text)
    if line.counter_says is not None:
        text = _(
            "The counter in Redis says “%(said)s” but the stock row has %(n)d,"
            " and nothing is on its way. commit_purchases sets it right."
        ) % {"said": line.counter_says[:20], "n": line.available}
        yield Alert(kind=Kind.COUNTER_DRIFT, product=line.product, text=text)


def _audit(line: ProductFigures, audit: ProductAudit | None) -> Iterator[Alert]:
    if audit is None or not audit.findings_total or audit.finished_at is None:
        return
    text = ngettext(
        "%(n)d finding in the audit of %(moment)s UTC: %(first)s",
        "%(n)d findings in the audit of %(moment)s UTC, the first: %(first)s",
        audit.findings_total,
    ) % {
        "n": audit.findings_total,
        "moment": date_format(audit.finished_at, "Y-m-d H:i"),
        "first": audit.findings[0]["text"],
    }
    yield Alert(kind=Kind.AUDIT, product=line.product, text=text[:500])
