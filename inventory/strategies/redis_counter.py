from __future__ import annotations

import time

from redis.exceptions import RedisError

from inventory import counter, ledger
from inventory.errors import KeyReused, LimitReached, OutcomeUnknown, SoldOut, StockBusy
from inventory.ledger import ACCEPTED
from inventory.strategies.base import PurchaseRequest, Receipt, Strategy, read_stock, refuse_to_nest

CHECK_AGAIN_S = 1.0
"""How often a process asks the database whether a counter that says “sold out” is right."""


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
            word, number = self._accept(request)
        except RedisError as error:
            raise OutcomeUnknown from error
        match word:
            case "accepted":
                return _ticket(request, left=number)
            case "pending":
                sold = ledger.find_receipt(request)
                return sold or _ticket(request, left=number, replayed=True)
            case "reused":
                raise KeyReused
            case "sold_out":
                raise SoldOut(available=number)
            case "limit_reached":
                raise LimitReached(limit=request.limit or 0)
        raise StockBusy

    def sell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """Accept the purchase: there is nothing to try again."""
        return self.sell(request)

    def pending(self, product_id: int) -> int:
        """How many accepted purchases of a product are not in the database yet."""
        return counter.on_their_way(product_id)

    def _accept(self, request: PurchaseRequest) -> tuple[str, int]:
        word, number = _ask(request)
        if word == "missing" or (word == "sold_out" and self._may_check(request)):
            seen = counter.count(request.product_id)
            available = read_stock(request.product_id).available
            if not seen.agrees_with(available):
                counter.heal(request.product_id, seen=seen, available=available)
            return _ask(request)
        return word, number

    def _may_check(self, request: PurchaseRequest) -> bool:
        now = time.monotonic()
        due = now - self._checked_at.get(request.product_id, 0.0) >= CHECK_AGAIN_S
        if due:
            self._checked_at[request.product_id] = now
        return due


def _ask(request: PurchaseRequest) -> tuple[str, int]:
    return counter.accept(
        product_id=request.product_id,
        quantity=request.quantity,
        buyer=request.buyer,
        key=request.key,
        unit_price=request.unit_price,
        limit=request.limit,
    )


def _ticket(request: PurchaseRequest, *, left: int, replayed: bool = False) -> Receipt:
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
