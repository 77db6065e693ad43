"""
Admissions from a waiting room: the signed ticket, and the one purchase it is good for.

Redis knows who may buy now; the ticket in the buyer's cookie says which admission is
his. A purchase claims it for its key, so that another key finds nothing to use.
"""

from __future__ import annotations

import logging

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from redis.exceptions import RedisError

from inventory.errors import InventoryError, OutcomeUnknown, StockBusy
from inventory.ledger import Receipt
from inventory.models import Product
from inventory.purchases import apurchase, purchase
from inventory.terms import SaleTerms
from inventory.threads import NoThreadFree, in_thread
from inventory.tickets import find_purchase
from shop import redis_scripts
from shop.errors import QueueRequired, SalePaused
from shop.forms import Wish

logger = logging.getLogger(__name__)

COOKIE = "admission"
PROMISED_FOR_MS = 4000
"""How long a unit just sold counts as promised still: until no process counts it as left."""
THREAD_WAIT_S = 3.0

Ticket = tuple[str, str]
"""The buyer of an admission, and its nonce."""


def keys(product_id: int) -> list[str]:
    """Name the hash of admissions, and the sorted set of those still good."""
    tag = f"queue:{{{product_id}}}"
    return [f"{tag}:admissions", f"{tag}:live"]


def sign_ticket(product_id: int, *, buyer: str, nonce: str) -> str:
    """Write the ticket of an admission."""
    return signing.dumps([buyer, nonce], salt=_salt(product_id))


def read_ticket(request: HttpRequest, product_id: int) -> Ticket | None:
    """Read the request's ticket; None where there is none that is genuine and fresh."""
    try:
        buyer, nonce = signing.loads(
            request.COOKIES[COOKIE], salt=_salt(product_id), max_age=settings.ADMISSION_S
        )
    except (KeyError, signing.BadSignature):
        return None
    return buyer, nonce


def must_queue(request: HttpRequest, product: Product) -> bool:
    """Whether the product's waiting room comes before its buy button for this visitor."""
    if product.admitted_per_minute is None:
        return False
    return read_ticket(request, product.pk) is None


def used(request: HttpRequest, response: HttpResponse, slug: str) -> HttpResponse:
    """Take the ticket from a buyer who bought with it."""
    if COOKIE in request.COOKIES:
        take_ticket(response, slug)
    return response


def take_ticket(response: HttpResponse, slug: str) -> None:
    """Have the browser forget its ticket for this product."""
    response.delete_cookie(COOKIE, path=reverse("product", args=[slug]), samesite="Lax")


def purchase_admitted(
    terms: SaleTerms, ticket: Ticket | None, *, slug: str, buyer: str, wish: Wish
) -> Receipt:
    """
    See purchase(): sell to a buyer whom the waiting room let in, once for each admission.

    What the key bought already is found without one. Raises QueueRequired, SalePaused too.
    """
    claim = _claim(ticket, buyer, wish)
    try:
        if not (claim and redis_scripts.run("claim", keys=keys(terms.product_id), arguments=claim)):
            return _bought_before(terms, QueueRequired(slug=slug), slug, buyer, wish)
    except RedisError as error:
        logger.error("Nobody can be admitted to %s: %s", slug, error)
        return _bought_before(terms, SalePaused(), slug, buyer, wish)
    try:
        receipt = purchase(slug=slug, quantity=wish.quantity, buyer=buyer, key=wish.key)
    except OutcomeUnknown:
        raise
    except InventoryError:
        _close(terms.product_id, claim, sold=False)
        raise
    _close(terms.product_id, claim, sold=True)
    return receipt


async def apurchase_admitted(
    terms: SaleTerms, ticket: Ticket | None, *, slug: str, buyer: str, wish: Wish
) -> Receipt:
    """See purchase_admitted()."""
    claim = _claim(ticket, buyer, wish)
    names = keys(terms.product_id)
    try:
        if not (claim and await redis_scripts.arun("claim", keys=names, arguments=claim)):
            return await _abought_before(terms, QueueRequired(slug=slug), slug, buyer, wish)
    except RedisError as error:
        logger.error("Nobody can be admitted to %s: %s", slug, error)
        return await _abought_before(terms, SalePaused(), slug, buyer, wish)
    try:
        receipt = await apurchase(slug=slug, quantity=wish.quantity, buyer=buyer, key=wish.key)
    except OutcomeUnknown:
        raise
    except InventoryError:
        await _aclose(terms.product_id, claim, sold=False)
        raise
    await _aclose(terms.product_id, claim, sold=True)
    return receipt


def _claim(ticket: Ticket | None, buyer: str, wish: Wish) -> list[str] | None:
    """What lua/claim.lua is asked; None for a ticket that is not this buyer's."""
    if ticket is None or ticket[0] != buyer:
        return None
    return [*ticket, wish.key.hex]


def _close(product_id: int, claim: list[str], *, sold: bool) -> None:
    """Use the admission up, or free it; where that fails it stays with this key."""
    arguments: list[str | int] = [*claim, int(sold), PROMISED_FOR_MS]
    try:
        redis_scripts.run("close", keys=keys(product_id), arguments=arguments)
    except RedisError as error:
        logger.warning("An admission to product %s stays open: %s", product_id, error)


async def _aclose(product_id: int, claim: list[str], *, sold: bool) -> None:
    """See _close()."""
    arguments: list[str | int] = [*claim, int(sold), PROMISED_FOR_MS]
    try:
        await redis_scripts.arun("close", keys=keys(product_id), arguments=arguments)
    except RedisError as error:
        logger.warning("An admission to product %s stays open: %s", product_id, error)


def _bought_before(
    terms: SaleTerms, refusal: InventoryError, slug: str, buyer: str, wish: Wish
) -> Receipt:
    """Find what the key bought already, or refuse."""
    earlier = find_purchase(slug=slug, quantity=wish.quantity, buyer=buyer, key=wish.key)
    if earlier is not None:
        return earlier
    terms.check_open(timezone.now())
    raise refusal


async def _abought_before(
    terms: SaleTerms, refusal: InventoryError, slug: str, buyer: str, wish: Wish
) -> Receipt:
    """See _bought_before()."""
    try:
        return await in_thread(_bought_before, THREAD_WAIT_S, terms, refusal, slug, buyer, wish)
    except NoThreadFree as error:
        raise StockBusy from error


def _salt(product_id: int) -> str:
    return f"shop.admission.{product_id}"
