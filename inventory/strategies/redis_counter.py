from __future__ import annotations

import time
from typing import Any

from redis.exceptions import RedisError

from inventory import counter, retries
from inventory.errors import KeyReused, LimitReached, OutcomeUnknown, SoldOut, StockBusy
from inventory.ledger import ACCEPTED
from inventory.retries import outage_as
from inventory.strategies.base import PurchaseRequest, Receipt, Strategy, read_stock, refuse_to_nest
from inventory.threads import NoThreadFree, in_thread
from inventory.uninterrupted import uninterrupted

CHECK_AGAIN_S = 1.0
"""How often a process asks the database whether a counter that says “sold out” is right."""
HEAL_WAIT_S = 3.0


class RedisCounter(Strategy):
    """
    Take units from a counter in Redis, and let consumers commit the sales later.

    The buyer is accepted in one script and gets a ticket that becomes the order, or
    a refusal: the database judges at the commit. A ticket is a place in a queue that
    lives in Redis; what Redis loses was accepted and not sold. A Redis that does not
    answer ends in OutcomeUnknown within 0.5 s. Raises SoldOut, LimitReached.
    """

    label = "Redis counter"
    needs_redis = True
    one_at_a_time = False

    def __init__(self) -> None:
        self._checked_at: dict[int, float] = {}

    def sell(self, request: PurchaseRequest) -> Receipt:
        """Accept the purchase; the same key again gets the same ticket, or its order."""
        refuse_to_nest()
        try:
            answer = counter.accept(**_wish(request))
            if self._in_question(answer, request):
                _heal(request.product_id, answer[0])
                answer = counter.accept(**_wish(request))
        except RedisError as error:
            raise OutcomeUnknown from error
        if answer[0] == "pending":
            sold = retries.find_receipt(request)
            return sold or _ticket(request, left=None, replayed=True)
        return _told(request, answer)

    async def asell(self, request: PurchaseRequest) -> Receipt:
        """See sell()."""
        return await uninterrupted(self._asell(request))

    async def _asell(self, request: PurchaseRequest) -> Receipt:
        try:
            answer = await counter.aaccept(**_wish(request))
            if self._in_question(answer, request):
                await in_thread(_heal, HEAL_WAIT_S, request.product_id, answer[0])
                answer = await counter.aaccept(**_wish(request))
        except RedisError as error:
            raise OutcomeUnknown from error
        except NoThreadFree as error:
            raise StockBusy from error
        if answer[0] == "pending":
            sold = await retries.afind_receipt(request)
            return sold or _ticket(request, left=None, replayed=True)
        return _told(request, answer)

    def sell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """Accept the purchase: there is nothing to try again."""
        return self.sell(request)

    async def asell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """See sell_once()."""
        return await self.asell(request)

    def pending(self, product_id: int) -> int:
        """How many accepted purchases of a product are not in the database yet."""
        return counter.on_their_way(product_id)

    def _in_question(self, answer: tuple[str, int], request: PurchaseRequest) -> bool:
        """Whether the database must be asked if the counter is right."""
        word, _ = answer
        if word != "sold_out":
            return word == "missing"
        now = time.monotonic()
        due = now - self._checked_at.get(request.product_id, 0.0) >= CHECK_AGAIN_S
        if due:
            self._checked_at[request.product_id] = now
        return due


def _heal(product_id: int, word: str) -> None:
    seen = counter.count(product_id)
    with outage_as(StockBusy):
        stock = read_stock(product_id)
    if word == "missing" or not seen.agrees_with(stock.available):
        counter.heal(product_id, seen=seen, available=stock.available, version=stock.version)


def _wish(request: PurchaseRequest) -> dict[str, Any]:
    return {
        "product_id": request.product_id,
        "quantity": request.quantity,
        "buyer": request.buyer,
        "key": request.key,
        "unit_price": request.unit_price,
        "limit": request.limit,
    }


def _told(request: PurchaseRequest, answer: tuple[str, int]) -> Receipt:
    """Give the ticket, or raise what the counter said instead."""
    match answer:
        case "accepted", left:
            return _ticket(request, left=left)
        case "reused", _:
            raise KeyReused
        case "sold_out", left:
            raise SoldOut(available=max(0, left))
        case "limit_reached", _:
            raise LimitReached(limit=request.limit or 0)
    raise StockBusy


def _ticket(request: PurchaseRequest, *, left: int | None, replayed: bool = False) -> Receipt:
    reference = counter.reference_for(
        product_id=request.product_id, buyer=request.buyer, key=request.key
    )
    return Receipt(
        order=reference,
        status=ACCEPTED,
        quantity=request.quantity,
        stock_version=None,
        available=left,
        replayed=replayed,
    )
