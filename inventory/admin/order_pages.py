"""One order at the operator's desk: all that happened to it, and how it is cancelled."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from inventory import holds
from inventory.admin.pages import actor_of, names_of, page_context, require
from inventory.admin.stock_forms import ReasonField
from inventory.errors import HoldOver, InventoryError, StockBusy
from inventory.holds import CALLED_OFF
from inventory.models import Movement, Order, Payment
from inventory.retries import outage_as

CALLED_OFF_BEFORE = {
    Order.Status.CANCELLED: gettext_lazy(
        "This order was cancelled already. Its units went back once; nothing was changed now."
    ),
    Order.Status.EXPIRED: gettext_lazy(
        "This order expired before you cancelled it. Its units are on sale again already."
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to an order."""

    at: datetime
    what: str | Promise
    detail: str = ""
    movement: Movement | None = None
    who: str = ""


class CancelForm(forms.Form):
    """Why an order is cancelled."""

    reason = ReasonField(help_text=gettext_lazy("Kept in the ledger with your name."))


def order_page(model_admin: admin.ModelAdmin, request: HttpRequest, reference: str) -> HttpResponse:
    """Show an order, its payments and its movements on one line of time."""
    order = find_order(reference)
    payments = list(order.payments.order_by("id"))
    movements = list(order.movements.order_by("version"))
    names = names_of([order.buyer, *(movement.actor for movement in movements)])
    context = page_context(
        model_admin,
        request,
        _("Order"),
        subtitle=str(order.reference),
        order=order,
        buyer=names.get(order.buyer, order.buyer),
        state=Order.Status(order.state).label,
        events=_events(order, payments, movements, names),
        refund_due=_refund_due(payments),
        may_cancel=request.user.has_perm("inventory.cancel_order")
        and order.status not in CALLED_OFF,
    )
    return render(request, "inventory/desk_order.html", context)


def cancel_page(
    model_admin: admin.ModelAdmin, request: HttpRequest, reference: uuid.UUID
) -> HttpResponse:
    """Ask for the reason (GET); cancel the order, its units go back on sale (POST)."""
    require(request, "inventory.cancel_order")
    order = find_order(str(reference))
    form = CancelForm(request.POST if request.method == "POST" else None)
    if form.is_valid() and _cancel(model_admin, request, order, form):
        return HttpResponseRedirect(reverse("admin:inventory_order_change", args=[reference]))
    context = page_context(
        model_admin,
        request,
        _("Cancel an order"),
        subtitle=str(order.reference),
        order=order,
        form=form,
        over=CALLED_OFF_BEFORE.get(Order.Status(order.status)),
        state=Order.Status(order.state).label,
        paid=[p for p in order.payments.all() if p.status == Payment.Status.CONFIRMED],
    )
    return render(request, "inventory/order_cancel.html", context)


def find_order(reference: str) -> Order:
    """Find an order with its state. Raises Http404."""
    try:
        found = Order.objects.with_state().select_related("product").filter(pk=reference).first()
    except ValidationError:
        found = None
    if found is None:
        raise Http404(_("There is no such order."))
    return found


def _cancel(
    model_admin: admin.ModelAdmin, request: HttpRequest, order: Order, form: CancelForm
) -> bool:
    """Cancel and say so; False, with the refusal in the form, when nothing was learnt."""
    reason = form.cleaned_data["reason"]
    try:
        with outage_as(StockBusy):
            holds.cancel_for_buyer(
                reference=order.reference, reason=reason, actor=actor_of(request)
            )
    except HoldOver as error:
        messages.error(request, CALLED_OFF_BEFORE[Order.Status(error.status)])
        return True
    except InventoryError as error:
        form.add_error(None, str(error))
        return False
    model_admin.log_change(request, order, f"{order.status} → cancelled: {reason}")
    said = _("The order is cancelled; %(units)d units are on sale again.")
    messages.success(request, said % {"units": order.quantity})
    return True


def _refund_due(payments: list[Payment]) -> list[Payment]:
    return [payment for payment in payments if payment.status == Payment.Status.REFUND_DUE]


def _events(
    order: Order, payments: list[Payment], movements: list[Movement], names: dict[str, str]
) -> list[Event]:
    """All that happened, the first first; what is still to come stands at its moment."""
    events = [
        Event(
            at=order.created_at,
            what=_("Ordered"),
            detail=f"{order.quantity} × € {order.unit_price}",
        )
    ]
    for movement in movements:
        events.append(
            Event(
                at=movement.created_at,
                what=movement.get_kind_display(),
                movement=movement,
                who=names.get(movement.actor, movement.actor),
            )
        )
    for payment in payments:
        detail = f"€ {payment.amount}, {payment.provider} {payment.provider_reference}"
        what = _("Payment: %(status)s") % {"status": payment.get_status_display()}
        events.append(Event(at=payment.created_at, what=what, detail=detail))
    if order.expires_at is not None and order.status not in CALLED_OFF:
        events.append(Event(at=order.expires_at, what=_at_the_end_of_the_hold(order)))
    return sorted(events, key=lambda event: event.at)


def _at_the_end_of_the_hold(order: Order) -> str:
    if order.status != Order.Status.HELD:
        return _("It could be paid until then")
    if order.state == Order.Status.EXPIRED:
        return _("The time to pay was over; its units wait to be given back")
    return _("Held until then, unless it is paid")
