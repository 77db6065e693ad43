"""What the shop itself refuses, beside what inventory raises."""

from __future__ import annotations

from django.utils.translation import gettext as _

from inventory.errors import InventoryError, Refusal


class QueueRequired(Refusal):
    """The product is sold only to those whom its waiting room let in."""

    def __init__(self, *, slug: str) -> None:
        self.slug = slug
        super().__init__(
            _("This is sold through a waiting room. Enter it, and buy when it is your turn.")
        )


class SalePaused(InventoryError):
    """The waiting room cannot be asked, so nobody is let in."""

    def __init__(self) -> None:
        self.retry_after_s = 5
        super().__init__(_("The sale is paused for a moment. Try again soon."))


class RateLimited(InventoryError):
    """Too many requests from one buyer or address; the next may come in `retry_after_s`."""

    def __init__(self, *, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(
            _("That was too often in too short a time. Wait %(seconds)s s, then try again.")
            % {"seconds": retry_after_s}
        )
