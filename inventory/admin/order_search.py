"""Finding orders among millions: every question is one that an index answers."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.contrib.auth import get_user_model
from django.db.models import QuerySet
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
NEWEST_FIRST_OF_ONE = ("-created_at", "-reference")
"""As (product, created_at) and (status, created_at) are read backwards."""
LAST_TO_EXPIRE_FIRST = ("-expires_at", "-reference")
BY_BUYER = ("buyer", "key")

Columns = tuple[str, ...]
Found = tuple[QuerySet[Order], Columns]


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
        """The orders, and the order of columns in which an index has them."""
        orders: QuerySet[Order] = Order.objects.with_state()
        order: Columns = NEWEST_FIRST
        if not self.is_valid():
            return orders.none(), order
        if self.cleaned_data["product"] is not None:
            orders = orders.filter(product_id=self.cleaned_data["product"])
            order = NEWEST_FIRST_OF_ONE
        if self.cleaned_data["status"]:
            orders, order = _in_state(orders, self.cleaned_data["status"])
        if self.cleaned_data["q"]:
            orders, order = _matching(orders, self.cleaned_data["q"], order)
        return orders, order


def _in_state(orders: QuerySet[Order], state: str) -> Found:
    """Of held orders the database's clock says whether their time is over."""
    if state == OVERDUE:
        overdue = orders.filter(status=Order.Status.HELD, expires_at__lte=DatabaseNow())
        return overdue, LAST_TO_EXPIRE_FIRST
    orders = orders.filter(status=state)
    if state == Order.Status.HELD:
        return orders.filter(expires_at__gt=DatabaseNow()), LAST_TO_EXPIRE_FIRST
    return orders, NEWEST_FIRST_OF_ONE


def _matching(orders: QuerySet[Order], text: str, order: Columns) -> Found:
    reference = _uuid(text)
    if reference is not None:
        return orders.filter(reference=reference), order
    kind, _colon, rest = text.partition(":")
    if kind == "user" or (kind == "guest" and _uuid(rest)):
        return orders.filter(buyer=text), order
    if kind == "guest":
        return orders.filter(buyer__istartswith=text), BY_BUYER
    user = get_user_model()
    member = user._default_manager.filter(**{user.USERNAME_FIELD: text}).first()
    return orders.filter(buyer=f"user:{member.pk}") if member else orders.none(), order


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
