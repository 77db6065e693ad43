"""The one map from what inventory raises to what HTTP answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus

import django.db
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from inventory.errors import (
    HoldOver,
    InvalidPurchase,
    InventoryError,
    KeyReused,
    LimitReached,
    NotHeld,
    NotOpen,
    OrderNotFound,
    OutcomeUnknown,
    PaymentReused,
    ProductNotFound,
    SoldOut,
    StockBusy,
    StrategyUnavailable,
    TicketNotFound,
)
from inventory.threads import NoThreadFree
from inventory.verdicts import OUTAGES, verdict_on
from shop.errors import QueueRequired, RateLimited, SalePaused

RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How one kind of error is told to a client."""

    status: int
    code: str
    title: str | Promise
    retry: bool = False
    retry_after_s: int = RETRY_AFTER_S


ANSWERS: dict[type[InventoryError], Answer] = {
    InvalidPurchase: Answer(status=400, code="invalid", title=_("Invalid request")),
    ProductNotFound: Answer(status=404, code="not_found", title=_("Not found")),
    TicketNotFound: Answer(status=404, code="ticket_not_found", title=_("No such ticket")),
    SoldOut: Answer(status=409, code="sold_out", title=_("Sold out")),
    LimitReached: Answer(status=409, code="limit_reached", title=_("Limit reached")),
    NotOpen: Answer(status=409, code="not_open", title=_("Not on sale")),
    OrderNotFound: Answer(status=404, code="not_found", title=_("Not found")),
    HoldOver: Answer(status=409, code="hold_over", title=_("No longer held")),
    NotHeld: Answer(status=409, code="not_held", title=_("Not waiting for payment")),
    PaymentReused: Answer(status=422, code="payment_reused", title=_("Payment already used")),
    KeyReused: Answer(status=422, code="key_reused", title=_("Key already used")),
    StockBusy: Answer(status=503, code="busy", title=_("Busy"), retry=True),
    OutcomeUnknown: Answer(
        status=503, code="outcome_unknown", title=_("Outcome unknown"), retry=True
    ),
    StrategyUnavailable: Answer(status=503, code="unavailable", title=_("Not available here")),
    QueueRequired: Answer(status=409, code="queue_required", title=_("Enter the waiting room")),
    SalePaused: Answer(status=503, code="paused", title=_("Paused"), retry=True),
    RateLimited: Answer(status=429, code="rate_limited", title=_("Too often"), retry=True),
}


def answer_to(error: InventoryError) -> Answer:
    """Look up how to tell this error."""
    answer = ANSWERS[type(error)]
    if isinstance(error, SalePaused | RateLimited):
        return replace(answer, retry_after_s=error.retry_after_s)
    return answer


def wants_json(request: HttpRequest) -> bool:
    """Whether the client asked for JSON rather than a page."""
    if request.META.get("HTTP_ACCEPT") == "application/json":
        return True
    types = ["text/html", "application/json", "application/problem+json"]
    return request.get_preferred_type(types) in types[1:]


def problem(answer: Answer, detail: str, **facts: object) -> HttpResponse:
    """Answer with an RFC 9457 problem that carries a `code` and the facts given."""
    body = {
        "title": str(answer.title),
        "status": answer.status,
        "code": answer.code,
        "detail": detail,
    }
    response = JsonResponse(
        {**body, **facts}, status=answer.status, content_type="application/problem+json"
    )
    return with_retry_header(response, answer)


def facts_of(error: InventoryError) -> dict[str, object]:
    """The facts an error carries that a client can use."""
    match error:
        case InvalidPurchase():
            return {"field": error.field}
        case SoldOut():
            return {"available": error.available}
        case HoldOver() | NotHeld():
            return {"order_status": error.status}
        case LimitReached():
            return {"limit": error.limit}
        case NotOpen(opens_at=opens_at) if opens_at is not None:
            return {"opens_at": opens_at.isoformat()}
        case QueueRequired():
            return {"queue": reverse("queue", args=[error.slug])}
    return {}


def with_retry_header(response: HttpResponse, answer: Answer) -> HttpResponse:
    """Tell the client when to try again, where that is of use."""
    if answer.retry:
        response["Retry-After"] = str(answer.retry_after_s)
    patch_vary_headers(response, ["Accept"])
    return response


def message_page(
    request: HttpRequest,
    answer: Answer,
    detail: str,
    template: str = "shop/message.html",
    /,
    **facts: object,
) -> HttpResponse:
    """Say it as JSON or as a plain page of its own."""
    if wants_json(request):
        return problem(answer, detail, **facts)
    context = {"answer": answer, "detail": detail}
    response = render(request, template, context, status=answer.status)
    return with_retry_header(response, answer)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer for an address, product or order that is not there."""
    return message_page(
        request, ANSWERS[ProductNotFound], gettext("There is nothing at this address.")
    )


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer for a request that cannot even be read."""
    return message_page(request, ANSWERS[InvalidPurchase], gettext("This request cannot be read."))


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer for a bug; it is in the log."""
    answer = Answer(status=500, code="error", title=_("Something went wrong"))
    return message_page(
        request, answer, gettext("This is our mistake. Your orders page shows what you own.")
    )


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer for a form whose token is missing or old."""
    answer = Answer(status=403, code="csrf", title=_("Please reload the page"))
    return message_page(
        request, answer, gettext("The page was too old to be used. Reload it and try again.")
    )


class NotAllowedMiddleware:
    """Says in words that an address does not know the method; Django's answer is empty."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Pass the request on; replace an empty 405."""
        response = self.get_response(request)
        if response.status_code != HTTPStatus.METHOD_NOT_ALLOWED:
            return response
        answer = Answer(status=405, code="method_not_allowed", title=_("Not possible here"))
        said = message_page(request, answer, gettext("This address cannot be used in this way."))
        said["Allow"] = response["Allow"]
        return said


def crowded() -> HttpResponse:
    """Answer for a request that was not begun: no thread was free for it."""
    answer = Answer(status=503, code="busy", title=_("Busy"), retry=True)
    return problem(answer, str(_("Too many people are looking right now. Try again.")))


class DatabaseOutageMiddleware:
    """Answers 503 when database or threads are not to be had, instead of a stack trace."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Pass the request on."""
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer for an outage; leave every other error to Django."""
        if isinstance(error, NoThreadFree):
            return crowded()
        if not isinstance(error, django.db.Error) or verdict_on(error) not in OUTAGES:
            return None
        answer = Answer(status=503, code="unavailable", title=_("Back in a moment"), retry=True)
        return message_page(
            request,
            answer,
            gettext("The shop cannot reach its books right now. Try again in a moment."),
        )
