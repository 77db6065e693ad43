"""
Mails that confirm orders, sent after the sale and outside of it.

The orders themselves are the outbox: what has no Confirmation is to be mailed. A sender
claims an order by inserting its row, so of any number of senders one sends.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone, translation

from inventory.models import Order
from shop import mails
from shop.models import Confirmation, MailLanguage

logger = logging.getLogger(__name__)

RECENT = timedelta(days=2)
"""Older orders are not told of any more; a hold may be paid a day after it was made."""
BATCH = 100
MOST_ATTEMPTS = 7
FIRST_PAUSE = timedelta(minutes=5)
"""Before the second attempt; each later pause is twice as long. All take five hours."""
BOUGHT = [Order.Status.CONFIRMED, Order.Status.PAID]


def unconfirmed(*, within: timedelta = RECENT) -> QuerySet[Order]:
    """The oldest orders of users, made within that time, that nobody has set out to confirm."""
    return Order.objects.filter(
        created_at__gte=timezone.now() - within,
        buyer__startswith="user:",
        status__in=BOUGHT,
        confirmation__isnull=True,
    ).order_by("created_at")[:BATCH]


def overdue() -> QuerySet[Order]:
    """The orders whose last attempt failed, or died, and whose next is due."""
    due = Order.objects.filter(confirmation__due_at__lte=timezone.now())
    return due.order_by("confirmation__due_at")[:BATCH]


def confirm(order: Order) -> bool:
    """
    Mail the buyer, unless another sender does; whether a mail was sent.

    Never raises for a mail that fails: it is tried again later, MOST_ATTEMPTS times in all.
    A sender that dies between sending and noting it makes the mail come twice, not never.
    """
    if not _claim(order):
        return False
    claimed = Confirmation.objects.filter(order=order)
    fresh = Order.objects.select_related("product").filter(pk=order.pk, status__in=BOUGHT).first()
    user = _buyer_of(fresh) if fresh else None
    if fresh is None or user is None:
        claimed.update(due_at=None)
        return False
    try:
        _send(fresh, user)
    except Exception as error:  # each mail backend has errors of its own
        logger.warning("Order %s was not confirmed by mail: %r", order.pk, error)
        return False
    claimed.update(sent_at=timezone.now(), due_at=None)
    return True


def _claim(order: Order) -> bool:
    now = timezone.now()
    earlier = Confirmation.objects.filter(order=order, due_at__lte=now).first()
    if earlier is not None:
        same = Confirmation.objects.filter(order=order, attempts=earlier.attempts, due_at__lte=now)
        attempts = earlier.attempts + 1
        return same.update(attempts=attempts, due_at=_due_after(attempts, now)) == 1
    try:
        Confirmation.objects.create(order=order, attempts=1, due_at=_due_after(1, now))
    except IntegrityError:
        return False
    return True


def _due_after(attempts: int, now: datetime) -> datetime | None:
    if attempts >= MOST_ATTEMPTS:
        return None
    pause: timedelta = FIRST_PAUSE * 2 ** (attempts - 1)
    return now + pause


def _buyer_of(order: Order) -> User | None:
    """The user, where there is one who can be written to."""
    pk = order.buyer.removeprefix("user:")
    if not pk.isdecimal():
        return None
    return User.objects.filter(pk=pk, is_active=True).exclude(email="").first()


def _send(order: Order, user: User) -> None:
    noted = MailLanguage.objects.filter(user=user).first()
    link = settings.SITE_URL + reverse("order", args=[order.pk])
    with translation.override(noted.language if noted else settings.LANGUAGE_CODE):
        mails.send("confirmation", user.email, {"order": order, "link": link})
