"""Accounts: Django's stock users, whose name is their email address."""

from __future__ import annotations

import django.db
from django.conf import settings
from django.contrib.auth.models import User
from django.core import signing
from django.core.exceptions import SynchronousOnlyOperation, ValidationError
from django.db.models import Q
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext as _

SALT = "shop.accounts.sign-up"
LONGEST_NAME = 150
"""Characters of a stock user's name."""


def normal_address(address: str) -> str:
    """
    Spell a valid email address in one way only: ASCII, in small letters.

    So no two that a database takes for equal belong to different mailboxes. Raises ValidationError.
    """
    local, _at, domain = address.rpartition("@")
    try:
        spelled = f"{local}@{domain.encode('idna').decode()}".lower()
    except UnicodeError as error:
        raise ValidationError(_("Enter a valid email address.")) from error
    if len(spelled) > LONGEST_NAME:
        raise ValidationError(_("Enter a valid email address."))
    return spelled


def is_known(address: str) -> bool:
    """Whether somebody has an account at this address."""
    return User.objects.filter(Q(username=address) | Q(email__iexact=address)).exists()


def sign_up_token(address: str) -> str:
    """Sign an address; whoever sends it back has read the mail it was in."""
    return signing.dumps(address, salt=SALT)


def address_in(token: str) -> str | None:
    """Read a token of sign_up_token(); None for one that is too old, forged or used."""
    try:
        address: str = signing.loads(token, salt=SALT, max_age=settings.PASSWORD_RESET_TIMEOUT)
    except signing.BadSignature:
        return None
    return None if is_known(address) else address


def account(request: HttpRequest) -> dict[str, object]:
    """Give templates the user who is signed in, read only where a template asks."""
    return {"account": SimpleLazyObject(lambda: _signed_in(request))}


def _signed_in(request: HttpRequest) -> User | None:
    """
    None too where that cannot be asked: a page about an outage must not meet it again, and who
    sent a body that cannot be read was not looked for.
    """
    try:
        user = getattr(request, "user", None)
        return user if user is not None and user.is_authenticated else None
    except (django.db.Error, SynchronousOnlyOperation):
        return None
