import uuid
from typing import Any

import django.db
from django.db import connection
from django.utils import timezone

from inventory import engine, ledger, retries, verdicts
from inventory.errors import LimitReached, SoldOut
from inventory.strategies.base import PurchaseRequest, Receipt, Strategy, refuse_to_nest

# Arguments: reference, product, buyer, key, quantity, unit price, strategy, attempts, limit
# or NULL, hold minutes or NULL, now. The result is one row: what became of it (sold, sold_out,
# limit_reached), the units available and the stock row's version.
CALL = "CALL inventory_sell(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"


class StoredProcedure(Strategy):
    """
    The whole transaction in one round trip: a procedure in the database sells.

    The stock row is never locked while Python or the network is at work. The price
    is a rule written in two languages; the same contract tests hold both.
    Raises SoldOut, LimitReached.
    """

    label = "Stored procedure"
    needs_procedures = True

    def sell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """
        Call, and read what became of it.

        A connection that breaks raises CommitLost: the commit is on the other side.
        """
        refuse_to_nest()
        reference = request.reference or uuid.uuid4()
        try:
            with connection.cursor() as cursor:
                cursor.execute(CALL, _arguments(request, reference, attempt))
                outcome, available, version = cursor.fetchone()
                while cursor.nextset():
                    pass
        except django.db.Error as error:
            if verdicts.verdict_on(error) is verdicts.Verdict.CONNECTION_LOST:
                raise retries.CommitLost from error
            raise
        return _receipt(request, reference, outcome, available, version)

    async def asell_once(self, request: PurchaseRequest, attempt: int) -> Receipt:
        """See sell_once()."""
        reference = request.reference or uuid.uuid4()
        try:
            async with engine.transaction() as sale:
                (row,) = await sale.read(CALL, _arguments(request, reference, attempt))
        except django.db.Error as error:
            if verdicts.verdict_on(error) is verdicts.Verdict.CONNECTION_LOST:
                raise retries.CommitLost from error
            raise
        return _receipt(request, reference, *row)


def _receipt(
    request: PurchaseRequest,
    reference: uuid.UUID,
    outcome: str,
    available: int | None,
    version: int | None,
) -> Receipt:
    """Read the procedure's answer."""
    if outcome == "sold_out":
        raise SoldOut(available=available or 0)
    if outcome == "limit_reached":
        raise LimitReached(limit=request.limit or 0)
    return Receipt(
        order=reference,
        status=ledger.status_of(request),
        quantity=request.quantity,
        stock_version=version,
        available=available,
    )


def _arguments(request: PurchaseRequest, reference: uuid.UUID, attempt: int) -> list[Any]:
    return [
        reference.hex,
        request.product_id,
        request.buyer,
        request.key.hex,
        request.quantity,
        request.unit_price,
        request.strategy,
        attempt,
        request.limit,
        request.hold_minutes,
        connection.ops.adapt_datetimefield_value(timezone.now()),
    ]
