"""What a shopper is told about an error, in their language: what happened and what to do next."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from inventory.errors import (
    InventoryError,
    KeyReused,
    LimitReached,
    NotOpen,
    OutcomeUnknown,
    ProductNotFound,
    SoldOut,
    StockBusy,
    StrategyUnavailable,
    TicketNotFound,
)


def sentence(error: InventoryError) -> str:
    """Put an error into words; one not known here speaks for itself."""
    match error:
        case SoldOut(available=available) if available > 0:
            return ngettext(
                "Only %(n)d left. Choose a smaller quantity and buy again.",
                "Only %(n)d left. Choose a smaller quantity and buy again.",
                available,
            ) % {"n": available}
        case SoldOut():
            return _("Sold out: no unit is left. Nothing was bought.")
        case LimitReached(limit=limit):
            return _(
                "Only %(n)d per buyer, and with what you have it would be more."
                " Choose a smaller quantity, or see your orders."
            ) % {"n": limit}
        case NotOpen(closed_at=None):
            return _(
                "The sale has not started yet. Stay on this page: the button opens at the start."
            )
        case NotOpen():
            return _("The sale is over. Nothing was bought.")
        case KeyReused():
            return _(
                "This key already belongs to a different purchase: your orders show what you"
                " bought. To buy more, buy again."
            )
    return _passing(error)


def _passing(error: InventoryError) -> str:
    """What may be otherwise in a moment, or was never there."""
    match error:
        case StockBusy():
            return _("Too many people are buying right now; nothing was sold. Try again.")
        case OutcomeUnknown():
            return _("We could not learn whether this sale was made: send the same key again.")
        case StrategyUnavailable(strategy=strategy, reason=reason):
            return _("“%(strategy)s” cannot sell here: %(reason)s.") % {
                "strategy": strategy,
                "reason": reason,
            }
        case ProductNotFound(slug=slug):
            return _("There is no product “%(slug)s”.") % {"slug": slug}
        case TicketNotFound():
            return _(
                "We know no such ticket. If you were given it, it was lost before it was sold:"
                " nothing was bought with it. Please buy again."
            )
    return str(error)
