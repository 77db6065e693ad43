"""
What `send_alerts` does in each round: audit, remember, and tell.

Any number of senders may run. An alert begins with the one guarded write that turns its
row on, and ends with the one that deletes it; whoever makes it writes the notices in the
same transaction. A notice is claimed as a confirmation is, and tried again later.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import asdict
from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone, translation

from inventory.audit import audit, read_books
from inventory.models import Product
from inventory.overview import Figures, read_figures
from shop import mails, webhooks
from shop.alerts import Alert, Kind, alerts_in, last_audits, unknown_in
from shop.models import AlertNotice, AlertState, ProductAudit

logger = logging.getLogger(__name__)

CALM = timedelta(seconds=60)
"""An alert ends when it was not seen for so long: stock that is held comes and goes."""
PATIENCE = {Kind.COUNTER_DRIFT: timedelta(seconds=5)}
"""For how long it is seen before it begins; a consumer sets a counter right each second."""
KEPT_FINDINGS = 20
BATCH = 50
MOST_ATTEMPTS = 10
FIRST_PAUSE = timedelta(seconds=15)
"""Before the second attempt; each later pause is twice as long. All take two hours."""


def look_and_tell() -> int:
    """
    Make one round: look, remember what began and ended, tell it, and audit one product.

    Returns how many notices were sent.
    """
    with translation.override(settings.LANGUAGE_CODE):
        figures = read_figures()
        remember(alerts_in(figures, last_audits()), unknown=unknown_in(figures))
        sent = deliver_due()
        audit_one(figures)
    return sent


def remember(alerts: Iterable[Alert], *, unknown: Collection[Kind] = ()) -> None:
    """Note what is seen, begin what is new, and end what was not seen for CALM."""
    now = timezone.now()
    seen = {_note(alert, now) for alert in alerts}
    for state in AlertState.objects.exclude(pk__in=seen).exclude(kind__in=unknown):
        if state.is_on:
            _end(state, now)
        else:
            AlertState.objects.filter(pk=state.pk, is_on=False).delete()


def deliver_due() -> int:
    """
    Send what is due, each notice by one sender; how many were sent. Never raises for one.

    A channel that fails is left alone until the next round, and does not hold up the other.
    """
    due = AlertNotice.objects.filter(due_at__lte=timezone.now()).select_related("product")
    failed: set[str] = set()
    sent = 0
    for notice in due.order_by("due_at")[:BATCH]:
        if notice.channel in failed or not _claim_notice(notice):
            continue
        if _is_sent(notice):
            sent += 1
        else:
            failed.add(notice.channel)
    return sent


def audit_one(figures: Figures) -> None:
    """Audit the product whose last audit is the oldest, if that is ALERT_AUDIT_MINUTES ago."""
    begun = dict(ProductAudit.objects.values_list("pk", "begun_at"))
    long_ago = datetime.min.replace(tzinfo=timezone.get_default_timezone())
    products = [line.product for line in figures.products]
    for product in sorted(products, key=lambda product: begun.get(product.pk, long_ago))[:1]:
        if _claim_audit(product, begun.get(product.pk)):
            findings = audit(read_books(product.pk))
            ProductAudit.objects.filter(pk=product.pk).update(
                finished_at=timezone.now(),
                findings=[asdict(finding) for finding in findings[:KEPT_FINDINGS]],
                findings_total=len(findings),
            )


def _claim_audit(product: Product, begun_at: datetime | None) -> bool:
    now = timezone.now()
    if begun_at is None:
        try:
            ProductAudit.objects.create(product=product, begun_at=now)
        except IntegrityError:
            return False
        return True
    before = now - timedelta(minutes=settings.ALERT_AUDIT_MINUTES)
    due = ProductAudit.objects.filter(pk=product.pk, begun_at=begun_at, begun_at__lte=before)
    return due.update(begun_at=now) == 1


def _note(alert: Alert, now: datetime) -> int:
    """Remember that an alert is seen; begin it if it was for long enough. Returns its row."""
    state, is_new = AlertState.objects.get_or_create(
        product=alert.product,
        kind=alert.kind,
        defaults={"text": alert.text, "first_seen_at": now, "last_seen_at": now},
    )
    mine = AlertState.objects.filter(pk=state.pk)
    if not is_new:
        mine.update(last_seen_at=now, text=alert.text)
    if not state.is_on and now - state.first_seen_at >= PATIENCE.get(alert.kind, timedelta()):
        with transaction.atomic():
            if mine.filter(is_on=False).update(is_on=True) == 1:
                _announce(AlertNotice.Event.BEGAN, state, alert.text, now)
    return state.pk


def _end(state: AlertState, now: datetime) -> None:
    over = AlertState.objects.filter(pk=state.pk, is_on=True, last_seen_at__lte=now - CALM)
    with transaction.atomic():
        if over.delete()[0] == 1:
            _announce(AlertNotice.Event.ENDED, state, state.text, now)


def _announce(event: AlertNotice.Event, state: AlertState, text: str, now: datetime) -> None:
    """Write one notice for each who is to be told."""
    channel = AlertNotice.Channel
    recipients = [(channel.EMAIL, address) for address in settings.ALERT_EMAILS]
    if settings.ALERT_WEBHOOK_URL:
        recipients.append((channel.WEBHOOK, ""))
    AlertNotice.objects.bulk_create(
        AlertNotice(
            channel=channel,
            recipient=recipient,
            event=event,
            kind=state.kind,
            product_id=state.product_id,
            text=text,
            happened_at=now,
            due_at=now,
        )
        for channel, recipient in recipients
    )


def _claim_notice(notice: AlertNotice) -> bool:
    now = timezone.now()
    attempts = notice.attempts + 1
    due_at = None if attempts >= MOST_ATTEMPTS else now + FIRST_PAUSE * 2 ** (attempts - 1)
    same = AlertNotice.objects.filter(pk=notice.pk, attempts=notice.attempts, due_at__lte=now)
    return same.update(attempts=attempts, due_at=due_at) == 1


def _is_sent(notice: AlertNotice) -> bool:
    try:
        _send(notice)
    except Exception as error:  # each mail backend and each receiver has errors of its own
        logger.warning("Alert %s was not told by %s: %r", notice.pk, notice.channel, error)
        return False
    AlertNotice.objects.filter(pk=notice.pk).update(sent_at=timezone.now(), due_at=None)
    return True


def _send(notice: AlertNotice) -> None:
    if notice.channel == AlertNotice.Channel.WEBHOOK:
        webhooks.post(notice)
        return
    context = {"notice": notice, "kind": Kind(notice.kind).label, "link": webhooks.link(notice)}
    mails.send("alert", notice.recipient, context)
