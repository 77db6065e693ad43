"""A guest's orders become those of the account that the same browser signs in to."""

from __future__ import annotations

import logging
from typing import Any

import django.db
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils.translation import get_language

from inventory.ownership import hand_over
from inventory.verdicts import OUTAGES, verdict_on
from shop.buyers import guest_of
from shop.models import MailLanguage

logger = logging.getLogger(__name__)


@receiver(user_logged_in, dispatch_uid="shop.joining")
def welcome(request: HttpRequest, user: User, **kwargs: Any) -> None:
    """Take in what the guest bought, by whatever door the user came; note the language."""
    join_guest(request, user)
    language = get_language() or ""
    MailLanguage.objects.update_or_create(user=user, defaults={"language": language})


def join_guest(request: HttpRequest, user: User) -> None:
    """
    Hand the orders of the browser's guest over to the user; doing it again is harmless.

    A database that cannot do it now fails no sign-in: the orders' pages do it later.
    """
    guest = guest_of(request)
    if guest is None:
        return
    try:
        hand_over(giver=guest, taker=f"user:{user.pk}")
    except django.db.Error as error:
        if verdict_on(error) not in OUTAGES:
            raise
        logger.warning("The orders of %s did not join user %s: %s", guest, user.pk, error)
