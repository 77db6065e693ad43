"""How prices are written."""

from __future__ import annotations

from decimal import Decimal

from django import template
from django.template.defaultfilters import floatformat
from django.utils.translation import gettext as _

register = template.Library()


@register.filter
def euro(amount: Decimal) -> str:
    """Write an amount of euro, to the cent, as the active language does."""
    return _("€ %(amount)s") % {"amount": floatformat(amount, "2g")}
