"""Buying: parse, one call, reply."""

from __future__ import annotations

import uuid
from contextlib import suppress
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from inventory.errors import InvalidPurchase, InventoryError, TicketNotFound
from inventory.ledger import ACCEPTED, Receipt
from inventory.purchases import apurchase, aterms_of, purchase, terms_of
from inventory.threads import in_thread
from inventory.tickets import redeem
from shop import admissions, rate_limits, refusals
from shop.addresses import client_address
from shop.buyers import aidentified, identified, owners
from shop.errors import QueueRequired
from shop.forms import Wish, read_wish
from shop.sentences import sentence
from shop.views.products import show_product

PAGE_WAIT_S = 3.0


@identified
def buy(request: HttpRequest, buyer: str, slug: str) -> HttpResponse:
    """Buy; answer with the order, or with why not."""
    if request.method != "POST":
        return _not_bought(request, slug)
    try:
        wish = read_wish(request)
    except InvalidPurchase as error:
        return _refused(request, slug, error)
    try:
        receipt = _purchase(request, slug, buyer, wish)
        response = admissions.used(request, _sold(request, slug, receipt), slug)
    except InventoryError as error:
        response = _refused(request, slug, error, wish)
    response["Idempotency-Key"] = str(wish.key)
    return response


@aidentified
async def abuy(request: HttpRequest, buyer: str, slug: str) -> HttpResponse:
    """See buy()."""
    if request.method != "POST":
        return _not_bought(request, slug)
    try:
        wish = read_wish(request)
    except InvalidPurchase as error:
        return await _arefused(request, slug, error)
    try:
        receipt = await _apurchase(request, slug, buyer, wish)
        response = admissions.used(request, _sold(request, slug, receipt), slug)
    except InventoryError as error:
        response = await _arefused(request, slug, error, wish)
    response["Idempotency-Key"] = str(wish.key)
    return response


@require_safe
@identified
def ticket_page(request: HttpRequest, buyer: str, slug: str, reference: uuid.UUID) -> HttpResponse:
    """Show the place in the queue, until it becomes the order or a refusal."""
    try:
        receipt = _redeem(request, slug, reference, buyer)
    except TicketNotFound as error:
        return refusals.message_page(request, refusals.answer_to(error), sentence(error))
    except InventoryError as error:
        return _refused(request, slug, error)
    if receipt.status == ACCEPTED and not refusals.wants_json(request):
        return render(request, "shop/ticket.html", {"receipt": receipt, "slug": slug}, status=202)
    return _sold(request, slug, receipt)


def _redeem(request: HttpRequest, slug: str, reference: uuid.UUID, buyer: str) -> Receipt:
    """Redeem as the buyer, or as the guest that the buyer was when the ticket was given."""
    *earlier, last = owners(request, buyer)
    for name in earlier:
        with suppress(TicketNotFound):
            return redeem(slug=slug, reference=reference, buyer=name)
    return redeem(slug=slug, reference=reference, buyer=last)


def _purchase(request: HttpRequest, slug: str, buyer: str, wish: Wish) -> Receipt:
    """Buy, past the rate limits and the waiting room, where there are any."""
    terms = terms_of(slug)
    if not terms.is_lab:
        rate_limits.check("buy", buyer=buyer, address=client_address(request))
    if terms.admitted_per_minute is None:
        return purchase(slug=slug, quantity=wish.quantity, buyer=buyer, key=wish.key)
    ticket = admissions.read_ticket(request, terms.product_id)
    return admissions.purchase_admitted(terms, ticket, slug=slug, buyer=buyer, wish=wish)


async def _apurchase(request: HttpRequest, slug: str, buyer: str, wish: Wish) -> Receipt:
    """See _purchase()."""
    terms = await aterms_of(slug)
    if not terms.is_lab:
        await rate_limits.acheck("buy", buyer=buyer, address=client_address(request))
    if terms.admitted_per_minute is None:
        return await apurchase(slug=slug, quantity=wish.quantity, buyer=buyer, key=wish.key)
    ticket = admissions.read_ticket(request, terms.product_id)
    return await admissions.apurchase_admitted(terms, ticket, slug=slug, buyer=buyer, wish=wish)


def _sold(request: HttpRequest, slug: str, receipt: Receipt) -> HttpResponse:
    """Answer with the order, or with the ticket that will become it."""
    accepted = receipt.status == ACCEPTED
    address = reverse("ticket", args=[slug, receipt.order]) if accepted else ""
    if not refusals.wants_json(request):
        page = address or reverse("order", args=[receipt.order])
        return HttpResponse(status=HTTPStatus.SEE_OTHER, headers={"Location": page})
    body = {
        "order": str(receipt.order),
        "status": receipt.status,
        "quantity": receipt.quantity,
        "stock_version": receipt.stock_version,
        "available": receipt.available,
    }
    response = JsonResponse(body, status=200 if receipt.replayed else 201)
    if accepted:
        response.status_code = HTTPStatus.ACCEPTED
        response["Location"] = address
    if receipt.replayed:
        response["Idempotent-Replayed"] = "true"
    return response


def _not_bought(request: HttpRequest, slug: str) -> HttpResponse:
    """Take whoever only looks here, say after going back, to the product."""
    if request.method not in ("GET", "HEAD"):
        return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
    page = reverse("product", args=[slug])
    return HttpResponse(status=HTTPStatus.SEE_OTHER, headers={"Location": page})


def _refused(
    request: HttpRequest, slug: str, error: InventoryError, wish: Wish | None = None
) -> HttpResponse:
    answer = refusals.answer_to(error)
    again = wish if answer.retry else None
    if refusals.wants_json(request):
        facts = {"key": str(again.key)} if again else refusals.facts_of(error)
        return refusals.problem(answer, sentence(error), **facts)
    if isinstance(error, QueueRequired):
        context = {"answer": answer, "detail": sentence(error), "slug": slug}
        response = render(request, "shop/queue_required.html", context, status=answer.status)
        admissions.take_ticket(response, slug)
    elif again is None:
        response = show_product(
            request, slug, key=uuid.uuid4(), answer=answer, refusal=sentence(error)
        )
    else:
        context = {"answer": answer, "detail": sentence(error), "slug": slug, "wish": again}
        response = render(request, "shop/try_again.html", context, status=answer.status)
    return refusals.with_retry_header(response, answer)


async def _arefused(
    request: HttpRequest, slug: str, error: InventoryError, wish: Wish | None = None
) -> HttpResponse:
    """See _refused(); a page is made in a thread, since it reads the books."""
    if refusals.wants_json(request):
        return _refused(request, slug, error, wish)
    return await in_thread(_refused, PAGE_WAIT_S, request, slug, error, wish)
