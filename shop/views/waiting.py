"""The waiting room: enter, look again, and go in when it is your turn."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from inventory.errors import InventoryError, NotOpen, StockBusy
from inventory.models import Product
from inventory.purchases import aterms_of, terms_of
from inventory.terms import SaleTerms
from inventory.threads import NoThreadFree, in_thread
from shop import admissions, rate_limits, refusals, waiting_room
from shop.addresses import client_address
from shop.buyers import aidentified, identified
from shop.errors import SalePaused
from shop.sentences import sentence
from shop.units_left import aunits_left, units_left
from shop.waiting_room import ADMITTED, EARLY, WAITING, Standing

PLACE_COOKIE = "place"
PAGE_WAIT_S = 3.0
THRESHOLDS = (1, 5, 10, 50, 100, 500, 1000, 5000, 10_000, 100_000)
"""A listener is told only when his number passes one of these."""


@require_safe
@identified
def queue(request: HttpRequest, buyer: str, slug: str) -> HttpResponse:
    """Show the waiting room and enter it; send whom it lets in to the product."""
    try:
        terms = terms_of(slug)
        if terms.admitted_per_minute is None:
            return _sent_to(request, slug)
        if not terms.is_lab:
            scope = _scope(request, terms, buyer)
            rate_limits.check(scope, buyer=buyer, address=client_address(request))
        _refuse_when_over(terms)
        units = units_left(terms.product_id)
        standing = waiting_room.look(terms, buyer=buyer, token=_token(request), units=units)
    except InventoryError as error:
        return _not_in(request, slug, error)
    return _stands(request, slug, buyer, terms, standing, units)


@require_safe
@aidentified
async def aqueue(request: HttpRequest, buyer: str, slug: str) -> HttpResponse:
    """See queue(); a whole page is made in a thread, since it reads the books."""
    try:
        terms = await aterms_of(slug)
        if terms.admitted_per_minute is None:
            return _sent_to(request, slug)
        if not terms.is_lab:
            scope = _scope(request, terms, buyer)
            await rate_limits.acheck(scope, buyer=buyer, address=client_address(request))
        _refuse_when_over(terms)
        units = await aunits_left(terms.product_id)
        standing = await waiting_room.alook(terms, buyer=buyer, token=_token(request), units=units)
    except InventoryError as error:
        reply = partial(_not_in, request, slug, error)
    else:
        reply = partial(_stands, request, slug, buyer, terms, standing, units)
    if _is_fragment(request) or refusals.wants_json(request):
        return reply()
    try:
        return await in_thread(reply, PAGE_WAIT_S)
    except NoThreadFree:
        busy = StockBusy()
        return refusals.problem(refusals.answer_to(busy), sentence(busy))


def _refuse_when_over(terms: SaleTerms) -> None:
    now = timezone.now()
    if terms.closes_at is not None and now >= terms.closes_at:
        raise NotOpen(closed_at=terms.closes_at)


def _stands(
    request: HttpRequest,
    slug: str,
    buyer: str,
    terms: SaleTerms,
    standing: Standing,
    units: int,
) -> HttpResponse:
    """Tell how it stands, and give the ticket or the token of the place."""
    if standing.state == ADMITTED:
        response = _admitted(request, slug, standing)
        ticket = admissions.sign_ticket(terms.product_id, buyer=buyer, nonce=standing.mark)
        _keep(request, response, slug, admissions.COOKIE, ticket, standing.number)
        return response
    state = "sold_out" if standing.state == WAITING and units < 1 else standing.state
    pause_s = waiting_room.pause_s(terms, standing)
    wait_s = waiting_room.wait_s(terms, standing.number)
    if refusals.wants_json(request):
        count = "waiting" if state == EARLY else "place"
        body = {"state": state, count: standing.number, "poll_after_s": round(pause_s, 1)}
        if state == WAITING:
            body["wait_s"] = math.ceil(wait_s)
        response = _unkept(JsonResponse(body))
    else:
        context = {"state": state, "number": standing.number, "minutes": math.ceil(wait_s / 60)}
        context |= {"opens_at": terms.opens_at, "pause_s": pause_s}
        response = _page(request, slug, context)
    token = waiting_room.sign_place(terms, buyer=buyer, standing=standing)
    _keep(request, response, slug, PLACE_COOKIE, token, waiting_room.PLACE_KEPT_S)
    return response


def _admitted(request: HttpRequest, slug: str, standing: Standing) -> HttpResponse:
    if not refusals.wants_json(request):
        return _sent_to(request, slug)
    address = reverse("product", args=[slug])
    body = {"state": ADMITTED, "expires_in_s": standing.number, "product": address}
    return _unkept(JsonResponse(body))


def _page(
    request: HttpRequest, slug: str, context: dict[str, Any], status: int = 200
) -> HttpResponse:
    """
    Show the room, or to a page that is open already only what changes in it.

    That gets status 200 even when the sale is paused: the page shows no other.
    """
    pause_s, number = context.pop("pause_s"), context.get("number", 0)
    level = next((t for t in THRESHOLDS if t >= number), 0) if context["state"] == WAITING else 0
    context |= {"slug": slug, "pause_ms": round(1000 * pause_s), "level": level}
    context |= {"news": f"{context['state']}-{level}", "is_fragment": _is_fragment(request)}
    if _is_fragment(request):
        context["is_news"] = request.GET.get("told") != context["news"]
        return _unkept(HttpResponse(render_to_string("shop/waiting_room_place.html", context)))
    context["product"] = get_object_or_404(Product, slug=slug)
    context |= {"is_news": True, "refresh_s": math.ceil(pause_s)}
    return _unkept(render(request, "shop/waiting_room.html", context, status=status))


def _not_in(request: HttpRequest, slug: str, error: InventoryError) -> HttpResponse:
    """Answer with why the room cannot be shown."""
    answer = refusals.answer_to(error)
    if refusals.wants_json(request):
        return refusals.problem(answer, sentence(error), **refusals.facts_of(error))
    if isinstance(error, NotOpen):
        return _sent_to(request, slug)
    if not isinstance(error, SalePaused):
        return refusals.message_page(request, answer, sentence(error))
    context = {"state": "paused", "pause_s": error.retry_after_s}
    response = _page(request, slug, context, answer.status)
    return refusals.with_retry_header(response, answer)


def _sent_to(request: HttpRequest, slug: str) -> HttpResponse:
    """Send a browser to the product's page, from an open page by the header htmx reads."""
    address = reverse("product", args=[slug])
    if _is_fragment(request):
        return _unkept(HttpResponse(headers={"HX-Redirect": address}))
    return _unkept(HttpResponse(status=303, headers={"Location": address}))


def _scope(request: HttpRequest, terms: SaleTerms, buyer: str) -> str:
    """Whether this is a look from a place, or someone new, who is counted more strictly."""
    epoch, _ = waiting_room.read_place(terms, buyer=buyer, token=_token(request))
    return "queue" if epoch else "queue_entry"


def _token(request: HttpRequest) -> str:
    return request.COOKIES.get(PLACE_COOKIE, "")


def _is_fragment(request: HttpRequest) -> bool:
    return request.headers.get("HX-Request") == "true"


def _unkept(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    patch_vary_headers(response, ["Accept", "HX-Request"])
    return response


def _keep(
    request: HttpRequest, response: HttpResponse, slug: str, name: str, value: str, max_age_s: int
) -> None:
    """Give a cookie that only this product's addresses, and no script, can read."""
    response.set_cookie(
        name,
        value,
        max_age=max_age_s,
        path=reverse("product", args=[slug]),
        httponly=True,
        samesite="Lax",
        secure=request.is_secure(),
    )
