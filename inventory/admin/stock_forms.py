"""What an operator answers to change stock."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from inventory.adjustments import MAX_REASON_LENGTH, MAX_UNITS
from inventory.models import Movement


class ReasonField(forms.CharField):
    """Why stock is changed or an order cancelled, as long as the ledger keeps it."""

    def __init__(self, **options: Any) -> None:
        wide = forms.TextInput(attrs={"class": "vTextField"})
        super().__init__(label=_("Reason"), max_length=MAX_REASON_LENGTH, widget=wide, **options)


class AdjustmentForm(forms.Form):
    """Units to add or take, and why."""

    delta = forms.IntegerField(
        label=_("Change by"),
        min_value=-MAX_UNITS,
        max_value=MAX_UNITS,
        help_text=_("Units: +20 adds, -3 takes away."),
    )
    kind = forms.ChoiceField(
        label=_("Kind"),
        choices=[
            (Movement.Kind.RESTOCK, _("Restock: units have arrived")),
            (Movement.Kind.CORRECTION, _("Correction: the count was wrong")),
        ],
    )
    reason = ReasonField()


class ResetForm(forms.Form):
    """Units to be available afterwards, and why."""

    units = forms.IntegerField(label=_("Reset to"), min_value=0, max_value=MAX_UNITS)
    reason = ReasonField()


class BulkResetForm(ResetForm):
    """Reset several products at once, whatever their counts are by then."""

    confirm = forms.BooleanField(label=_("Yes, forget the present count"))
