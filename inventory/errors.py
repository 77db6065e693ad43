"""Everything that can go wrong with a purchase or a stock write, as facts and a sentence."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.utils.translation import gettext as _


class InventoryError(Exception):
    """The root of this tree; never raised itself."""


class ProductNotFound(InventoryError):
    """There is no product with this slug."""

    def __init__(self, *, slug: str) -> None:
        self.slug = slug
        super().__init__(f"There is no product “{slug}”.")


class TicketNotFound(InventoryError):
    """There is no ticket, nor an order, of this buyer under this reference."""

    def __init__(self) -> None:
        super().__init__(
            "We know no such ticket. If you were given it, it was lost before it was sold:"
            " nothing was bought with it. Please buy again."
        )


class InvalidPurchase(InventoryError):
    """The request itself is wrong; `field` names what to correct."""

    def __init__(self, *, field: str, problem: str) -> None:
        self.field = field
        super().__init__(problem)


class KeyReused(InventoryError):
    """The key already names an order for another product or quantity."""

    def __init__(self) -> None:
        super().__init__("This key already belongs to a different purchase; use a new one.")


class Refusal(InventoryError):
    """A definite "no" to the buyer; never raised itself. Not a failure."""


class SoldOut(Refusal):
    """Fewer units are left than were asked for."""

    def __init__(self, *, available: int) -> None:
        self.available = available
        super().__init__(
            "Sold out: no unit is left." if available < 1 else f"Only {available} left."
        )


class LimitReached(Refusal):
    """The buyer would own more units of the product than one buyer may."""

    def __init__(self, *, limit: int) -> None:
        self.limit = limit
        super().__init__(f"Only {limit} per buyer.")


class NotOpen(Refusal):
    """The sale has not begun, or is over."""

    def __init__(self, *, opens_at: datetime | None = None, closed_at: datetime | None = None):
        self.opens_at = opens_at
        self.closed_at = closed_at
        super().__init__("The sale is over." if closed_at else "The sale has not started yet.")


class OrderNotFound(InventoryError):
    """The buyer has no order under this reference."""

    def __init__(self, *, reference: uuid.UUID) -> None:
        self.reference = reference
        super().__init__(_("There is no such order."))


class HoldOver(Refusal):
    """The order was not paid in time, or was called off: its units are on sale again."""

    def __init__(self, *, status: str) -> None:
        self.status = status
        super().__init__(
            _("This order is no longer held for you, and its units are on sale again. Buy again.")
        )


class NotHeld(Refusal):
    """The order is not waiting for a payment; `status` says what it is instead."""

    def __init__(self, *, status: str) -> None:
        self.status = status
        super().__init__(_("This order does not wait for a payment, so nothing was changed."))


class PaymentReused(InventoryError):
    """The provider's reference already belongs to the payment of another order."""

    def __init__(self) -> None:
        super().__init__(_("This payment already belongs to another order; nothing was changed."))


class StockBusy(InventoryError):
    """Nothing was sold and trying again is safe: waits or retries were used up."""

    def __init__(self, *, attempts: int = 1) -> None:
        self.attempts = attempts
        super().__init__("Too many people are buying right now; nothing was sold. Try again.")


class OutcomeUnknown(InventoryError):
    """The answer to the commit was lost; the same key tells the truth on replay."""

    def __init__(self) -> None:
        super().__init__("We could not learn whether this sale was made: send the same key again.")


class StrategyUnavailable(InventoryError):
    """The product's strategy cannot sell it here; `reason` says what is missing."""

    def __init__(self, *, strategy: str, reason: str) -> None:
        self.strategy = strategy
        self.reason = reason
        super().__init__(f"“{strategy}” cannot sell here: {reason}.")


class AdjustmentRefused(InventoryError):
    """A restock, correction or reset was not made; nothing changed."""


class StockMoved(AdjustmentRefused):
    """The stock was written since whoever adjusts it had looked; nothing changed."""

    def __init__(self, *, seen_version: int, version: int) -> None:
        self.seen_version = seen_version
        self.version = version
        super().__init__(_("The stock moved since you looked. Nothing was changed."))
