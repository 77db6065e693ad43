"""What became of a purchase: found by its key, or by the ticket of one only accepted."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import replace

from redis.exceptions import RedisError

from inventory import counter, ledger
from inventory.counter import Ticket
from inventory.errors import KeyReused, LimitReached, OutcomeUnknown, SoldOut, TicketNotFound
from inventory.ledger import ACCEPTED, Receipt
from inventory.retries import find_receipt, outage_as
from inventory.terms import sale_terms


def redeem(*, slug: str, reference: uuid.UUID, buyer: str) -> Receipt:
    """
    Find what became of an accepted purchase: its order, or its ticket while it waits.

    Raises SoldOut, LimitReached or KeyReused when it was refused after all,
    ProductNotFound, TicketNotFound, OutcomeUnknown.
    """
    with outage_as(OutcomeUnknown):
        terms = sale_terms(slug)
        receipt = ledger.receipt_of(reference=reference, buyer=buyer)
    if receipt is not None:
        return receipt
    try:
        ticket = counter.find_ticket(product_id=terms.product_id, reference=reference, buyer=buyer)
    except RedisError as error:
        raise OutcomeUnknown from error
    match ticket:
        case None:
            raise TicketNotFound
        case Ticket(state="sold_out"):
            raise SoldOut(available=0)
        case Ticket(state="limit_reached"):
            raise LimitReached(limit=terms.limit or 0)
        case Ticket(state="key_reused"):
            raise KeyReused
        case Ticket(state="pending"):
            return _waiting(reference, ticket)
    _, _, other = ticket.state.partition(":")
    return redeem(slug=slug, reference=uuid.UUID(other), buyer=buyer)


def find_purchase(*, slug: str, quantity: int, buyer: str, key: uuid.UUID) -> Receipt | None:
    """
    Find what `key` bought already, or its ticket while it waits; None where it bought nothing.

    Raises ProductNotFound, KeyReused; OutcomeUnknown when the books cannot be asked.
    """
    with outage_as(OutcomeUnknown):
        terms = sale_terms(slug)
    sale = find_receipt(terms.request(quantity=quantity, buyer=buyer, key=key))
    if sale is not None:
        return sale
    reference = counter.reference_for(product_id=terms.product_id, buyer=buyer, key=key)
    with suppress(RedisError):
        ticket = counter.find_ticket(product_id=terms.product_id, reference=reference, buyer=buyer)
        if ticket is not None and ticket.state == "pending":
            return replace(_waiting(reference, ticket), replayed=True)
    return None


def _waiting(reference: uuid.UUID, ticket: Ticket) -> Receipt:
    return Receipt(
        order=reference,
        status=ACCEPTED,
        quantity=ticket.quantity,
        stock_version=None,
        available=None,
    )
