"""Finding orders among millions: every question is one that an index answers."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _

from inventory.clock import DatabaseNow
from inventory.models import Order

OVERDUE = "overdue"
STATES = [
    ("", _("Every state")),
    (Order.Status.CONFIRMED, _("Confirmed")),
    (Order.Status.HELD, _("Held, to be paid")),
    (Order.Status.PAID, _("Paid")),
    (Order.Status.CANCELLED, _("Cancelled")),
    (Order.Status.EXPIRED, _("Expired, units given back")),
    (OVERDUE, _("Expired, units not given back yet")),
]
NEWEST_FIRST = ("-created_at", "reference")
BACKWARDS = ("-created_at", "-reference")
"""The newest first of one product or state: its index is read from its end."""
LAST_TO_EXPIRE = ("-expires_at", "-reference")
BY_BUYER = ("buyer", "key")
OF_MOST_ORDERS = (Order.Status.CONFIRMED, Order.Status.PAID)
"""Found soon among a product's orders; the others sooner among those of their state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Orders, and the index that has them in order: the columns `within`, then those of `order`."""

    rows: QuerySet[Order]
    order: tuple[str, ...] = NEWEST_FIRST
    within: dict[str, Any] = field(default_factory=dict)


class OrderSearch(forms.Form):
    """Which orders to show."""

    q = forms.CharField(
        label=_("Reference or buyer"),
        required=False,
        max_length=150,
        help_text=_(
            "An order's reference, a member's name, “user:5”, or the beginning of “guest:…”."
        ),
    )
    product = forms.TypedChoiceField(
        label=_("Product"), required=False, coerce=int, empty_value=None
    )
    status = forms.ChoiceField(label=_("State"), required=False, choices=STATES)

    def __init__(self, data: Any, *, products: dict[int, str]) -> None:
        super().__init__(data)
        named = sorted(products.items(), key=lambda pair: pair[1])
        choices = self.fields["product"]
        assert isinstance(choices, forms.ChoiceField)
        choices.choices = [("", _("Every product")), *named]

    def found(self) -> Found:
        """Look for the orders; each question is a range of an index."""
        orders: QuerySet[Order] = Order.objects.with_state()
        if not self.is_valid():
            return Found(rows=orders.none())
        text, state = self.cleaned_data["q"], self.cleaned_data["status"]
        product = self.cleaned_data["product"]
        of_product = {} if product is None else {"product_id": product}
        orders = orders.filter(_in_time(state))
        status = {"status": Order.Status.HELD if state == OVERDUE else state} if state else {}
        if text:
            return _matching(orders.filter(**of_product, **status), text)
        if state in (OVERDUE, Order.Status.HELD):
            return Found(rows=orders.filter(**of_product), order=LAST_TO_EXPIRE, within=status)
        if of_product and state in ("", *OF_MOST_ORDERS):
            return Found(rows=orders.filter(**status), order=BACKWARDS, within=of_product)
        if status:
            return Found(rows=orders.filter(**of_product), order=BACKWARDS, within=status)
        return Found(rows=orders)


def _in_time(state: str) -> Q:
    """Of held orders the database's clock says whether their time is over."""
    if state == OVERDUE:
        return Q(expires_at__lte=DatabaseNow())
    return Q(expires_at__gt=DatabaseNow()) if state == Order.Status.HELD else Q()


def _matching(orders: QuerySet[Order], text: str) -> Found:
    reference = _uuid(text)
    if reference is not None:
        return Found(rows=orders.filter(reference=reference))
    kind, _colon, rest = text.partition(":")
    if kind == "user" or (kind == "guest" and _uuid(rest)):
        return Found(rows=orders.filter(buyer=text))
    if kind == "guest":
        return Found(rows=orders.filter(buyer__istartswith=text), order=BY_BUYER)
    user = get_user_model()
    member = user._default_manager.filter(**{user.USERNAME_FIELD: text}).first()
    return Found(rows=orders.filter(buyer=f"user:{member.pk}") if member else orders.none())


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
