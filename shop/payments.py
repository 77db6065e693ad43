"""Where buyers pay: what the shop needs of a payment provider, and the simulated one."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Protocol
from urllib.parse import urlencode

from django.core import signing
from django.urls import reverse
from django.utils.translation import gettext as _

from inventory.errors import InvalidPurchase


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A payment that is asked for; the same `reference` is the same payment."""

    order: uuid.UUID
    reference: uuid.UUID
    amount: Decimal
    """In euro."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """What a provider says became of a payment."""

    asked: Asked
    paid: bool


class Provider(Protocol):
    """One who takes the buyers' money."""

    name: str

    def start(self, asked: Asked) -> str:
        """Ask for a payment; the address to send the buyer to."""

    def charge(self, asked: Asked) -> str:
        """Take the payment at once, without sending the buyer away; the signed confirmation."""

    def read(self, confirmation: str) -> Confirmation:
        """Read a confirmation. Raises InvalidPurchase when the provider has not signed it."""


class Simulated:
    """
    Plays a provider: it signs whatever the buyer chooses, and no money moves.

    A confirmation never gets too old: one that comes late is to be refunded, not ignored.
    """

    name = "simulated"
    _signer_salt = "shop.payments.simulated"

    def start(self, asked: Asked) -> str:
        """Ask on a page of the shop's own, with Pay and Decline."""
        return f"{reverse('simulated-payment')}?{urlencode({'ask': self._sign(asked, 'ask')})}"

    def charge(self, asked: Asked) -> str:
        """Say that it was paid."""
        return self._sign(asked, "paid")

    def decline(self, asked: Asked) -> str:
        """Say that the buyer did not pay."""
        return self._sign(asked, "declined")

    def read(self, confirmation: str) -> Confirmation:
        """Read a confirmation; what only asks for a payment is none."""
        said, asked = self._unsign(confirmation)
        if said not in ("paid", "declined"):
            raise _unsigned()
        return Confirmation(asked=asked, paid=said == "paid")

    def read_ask(self, ask: str) -> Asked:
        """Read what the buyer was sent here with. Raises InvalidPurchase."""
        said, asked = self._unsign(ask)
        if said != "ask":
            raise _unsigned()
        return asked

    def _sign(self, asked: Asked, said: str) -> str:
        facts = [said, asked.order.hex, asked.reference.hex, str(asked.amount)]
        return signing.dumps(facts, salt=self._signer_salt)

    def _unsign(self, text: str) -> tuple[str, Asked]:
        try:
            said, order, reference, amount = signing.loads(text, salt=self._signer_salt)
            asked = Asked(
                order=uuid.UUID(order), reference=uuid.UUID(reference), amount=Decimal(amount)
            )
        except (signing.BadSignature, ValueError, InvalidOperation) as error:
            raise _unsigned() from error
        return said, asked


def _unsigned() -> InvalidPurchase:
    problem = _("This was not signed by the payment provider, so nothing was changed.")
    return InvalidPurchase(field="confirmation", problem=problem)


simulated = Simulated()
PROVIDER: Provider = simulated
"""Who takes the payments of this shop."""
