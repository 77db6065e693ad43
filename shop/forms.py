"""What a buyer sends, read without Django's forms: they cost as much as half a sale."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

from django.http import HttpRequest
from django.utils.translation import gettext as _

from inventory.errors import InvalidPurchase
from inventory.purchases import MAX_QUANTITY

IN_PARTS = "multipart/form-data"
FORM_TYPES = ("application/x-www-form-urlencoded", IN_PARTS)
FIELDS = ("quantity", "key")
DIGITS = re.compile(r"[0-9]{1,9}")
UUID = re.compile(
    r"[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?"
    r"(?:[0-7][0-9a-fA-F]{3}-?[0-9a-fA-F]{2}"
    r"|[0-9a-fA-F]{4}-?(?:00|8[1-9a-fA-F]|[9a-fA-F][0-9a-fA-F]))[0-9a-fA-F]{2}"
    r"-?[0-9a-fA-F]{12}"
)
"""
One that every database can keep. MariaDB refuses, of the versions over 7, those whose ninth
byte is from 01 to 80.
"""


@dataclass(frozen=True, slots=True)
class Wish:
    """A readable wish to buy: `quantity` units, once per `key`."""

    quantity: int
    key: uuid.UUID


def read_wish(request: HttpRequest) -> Wish:
    """
    Read quantity (1 if absent) and key (made here if absent; the header wins).

    Raises InvalidPurchase, naming the field.
    """
    _check_body(request)
    _check_address(request, FIELDS)
    sent = _only(request, "quantity")
    quantity = "1" if sent is None else sent
    if not DIGITS.fullmatch(quantity) or not 1 <= int(quantity) <= MAX_QUANTITY:
        problem = _("Quantity must be between 1 and %(most)s.") % {"most": MAX_QUANTITY}
        raise InvalidPurchase(field="quantity", problem=problem)
    return Wish(int(quantity), _read_key(request))


def check_form(request: HttpRequest, *fields: str) -> None:
    """
    Refuse a body that is no form, and these fields in the address; no body at all will do.

    Raises InvalidPurchase: what was sent there would be overlooked.
    """
    if request.body:
        _check_body(request)
    _check_address(request, fields)


def read_uuid(request: HttpRequest, field: str) -> uuid.UUID:
    """Read a form field, made here if absent. Raises InvalidPurchase, naming the field."""
    sent = _only(request, field)
    return uuid.uuid4() if sent is None else _uuid(sent, field)


def _is_whole(request: HttpRequest) -> bool:
    """
    Whether each part is a field, up to the last.

    Django leaves out a part that it cannot read: a form without its quantity buys one unit.
    """
    if request.content_type != IN_PARTS:
        return True
    end = f"--{(request.content_params or {}).get('boundary')}--"
    return not request.FILES and request.body.rstrip().endswith(end.encode())


def _read_key(request: HttpRequest) -> uuid.UUID:
    in_form = _only(request, "key")
    in_header = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if in_header is not None:
        in_header = in_header.strip('"')
    keys = [_uuid(sent, "key") for sent in (in_header, in_form) if sent is not None]
    return keys[0] if keys else uuid.uuid4()


def _uuid(sent: str, field: str) -> uuid.UUID:
    if not UUID.fullmatch(sent):
        raise InvalidPurchase(field=field, problem=_("The %s must be a UUID.") % field)
    return uuid.UUID(sent)


def _only(request: HttpRequest, name: str) -> str | None:
    """Read a field that may be sent once: which of two was meant, nobody can tell."""
    sent = request.POST.getlist(name)
    if len(sent) > 1:
        raise InvalidPurchase(field=name, problem=_("Send each field once."))
    return sent[0] if sent else None


def _check_body(request: HttpRequest) -> None:
    if request.content_type not in FORM_TYPES or not _is_whole(request):
        raise InvalidPurchase(field="body", problem=_("Send the purchase as form fields."))


def _check_address(request: HttpRequest, fields: tuple[str, ...]) -> None:
    """Refuse fields in the address, which would otherwise be overlooked."""
    if not request.META.get("QUERY_STRING"):
        return
    for name in fields:
        if name in request.GET:
            raise InvalidPurchase(field=name, problem=_("Send the purchase as form fields."))
