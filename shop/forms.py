"""What a buyer sends, read without Django's forms: they cost as much as half a sale."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

from django.http import HttpRequest

from inventory.errors import InvalidPurchase
from inventory.purchases import MAX_QUANTITY

FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
DIGITS = re.compile(r"[0-9]{1,9}")
UUID = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")


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
    if request.content_type not in FORM_TYPES:
        raise InvalidPurchase(field="body", problem="Send the purchase as form fields.")
    quantity = request.POST.get("quantity", "1")
    if not DIGITS.fullmatch(quantity) or not 1 <= int(quantity) <= MAX_QUANTITY:
        problem = f"Quantity must be between 1 and {MAX_QUANTITY}."
        raise InvalidPurchase(field="quantity", problem=problem)
    return Wish(int(quantity), _read_key(request))


def read_uuid(request: HttpRequest, field: str) -> uuid.UUID:
    """Read a form field, made here if absent. Raises InvalidPurchase, naming the field."""
    return _uuid(request.POST.get(field), field)


def _read_key(request: HttpRequest) -> uuid.UUID:
    header = request.META.get("HTTP_IDEMPOTENCY_KEY", "").strip('"')
    return _uuid(header or request.POST.get("key"), "key")


def _uuid(sent: str | None, field: str) -> uuid.UUID:
    if sent is None:
        return uuid.uuid4()
    if not UUID.fullmatch(sent):
        raise InvalidPurchase(field=field, problem=f"The {field} must be a UUID.")
    return uuid.UUID(sent)
