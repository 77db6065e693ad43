"""Paying for a held order, and calling it off: parse, one call, reply."""

from __future__ import annotations

import uuid
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from inventory import holds
from inventory.errors import HoldOver, InvalidPurchase, InventoryError, NotHeld
from inventory.models import Order, Payment
from shop import refusals
from shop.buyers import identified
from shop.forms import check_form, read_uuid
from shop.payments import PROVIDER, Asked, Confirmation, Provider, simulated
from shop.sentences import sentence
from shop.views.orders import find_order, refund_due, show_order


@require_POST
@identified
def pay(request: HttpRequest, buyer: str, reference: uuid.UUID) -> HttpResponse:
    """Pay for the buyer's own held order at once, or on the provider's page (`at=provider`)."""
    order = find_order(request, buyer, reference)
    try:
        check_form(request, "payment", "at")
        asked = _asked(request, order)
        if order.state == Order.Status.PAID:
            return _to_the_order(request, buyer, reference)
        _check_payable(order)
        if request.POST.get("at") == "provider":
            return _see(PROVIDER.start(asked))
        _take_in(PROVIDER, PROVIDER.read(PROVIDER.charge(asked)))
        _check_kept(find_order(request, buyer, reference))
    except InventoryError as error:
        return _refused(request, buyer, reference, error)
    return _to_the_order(request, buyer, reference)


@require_POST
@identified
def cancel(request: HttpRequest, buyer: str, reference: uuid.UUID) -> HttpResponse:
    """Call off the buyer's own held order."""
    order = find_order(request, buyer, reference)
    try:
        check_form(request)
        holds.cancel(reference=reference, buyer=order.buyer)
    except InventoryError as error:
        return _refused(request, buyer, reference, error)
    return _to_the_order(request, buyer, reference)


@require_safe
def simulated_payment(request: HttpRequest) -> HttpResponse:
    """Show the simulated provider's own page, with Pay and Decline."""
    try:
        asked = simulated.read_ask(request.GET.get("ask", ""))
    except InvalidPurchase as error:
        return _unreadable(request, error)
    context = {
        "asked": asked,
        "paid": simulated.charge(asked),
        "declined": simulated.decline(asked),
    }
    return render(request, "shop/simulated_payment.html", context)


@csrf_exempt  # the provider's signature is the proof, and no cookie is read
@require_POST
def confirm(request: HttpRequest) -> HttpResponse:
    """Take in what the simulated provider says; the same again has the same answer."""
    try:
        confirmation = simulated.read(request.POST.get("confirmation", ""))
        payment = _take_in(simulated, confirmation) if confirmation.paid else None
    except InventoryError as error:
        return _unreadable(request, error)
    order = confirmation.asked.order
    if refusals.wants_json(request):
        status = payment.status if payment else "declined"
        return JsonResponse({"order": str(order), "payment": status})
    declined = "" if payment else "?payment=declined"
    return _see(reverse("order", args=[order]) + declined)


def _asked(request: HttpRequest, order: Order) -> Asked:
    reference = read_uuid(request, "payment")
    return Asked(order=order.pk, reference=reference, amount=order.total)


def _check_payable(order: Order) -> None:
    """Raise HoldOver or NotHeld rather than take money that must be given back."""
    _check_kept(order)
    if order.state != Order.Status.HELD:
        raise NotHeld(status=order.state)


def _check_kept(order: Order) -> None:
    if order.state in holds.CALLED_OFF:
        raise HoldOver(status=order.state)


def _take_in(provider: Provider, confirmation: Confirmation) -> Payment:
    asked = confirmation.asked
    return holds.pay(
        reference=asked.order,
        provider=provider.name,
        provider_reference=asked.reference.hex,
        amount=asked.amount,
    )


def _to_the_order(request: HttpRequest, buyer: str, reference: uuid.UUID) -> HttpResponse:
    if refusals.wants_json(request):
        return show_order(request, find_order(request, buyer, reference))
    return _see(reverse("order", args=[reference]))


def _see(address: str) -> HttpResponse:
    return HttpResponseRedirect(address, status=HTTPStatus.SEE_OTHER)


def _unreadable(request: HttpRequest, error: InventoryError) -> HttpResponse:
    answer = refusals.answer_to(error)
    return refusals.message_page(request, answer, sentence(error), **refusals.facts_of(error))


def _refused(
    request: HttpRequest, buyer: str, reference: uuid.UUID, error: InventoryError
) -> HttpResponse:
    answer = refusals.answer_to(error)
    order = find_order(request, buyer, reference)
    if refusals.wants_json(request):
        facts = {"refund_due": refund_due(order), **refusals.facts_of(error)}
        return refusals.problem(answer, sentence(error), **facts)
    response = show_order(request, order, refusal=sentence(error), status=answer.status)
    return refusals.with_retry_header(response, answer)
