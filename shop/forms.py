from __future__ import annotations

import uuid

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator

from inventory.purchases import MAX_QUANTITY


class PurchaseForm(forms.Form):
    """What a buyer sends: quantity (1 if absent) and key (made here if absent)."""

    quantity = forms.RegexField(
        r"\A[0-9]{1,9}\Z",
        required=False,
        error_messages={"invalid": f"Quantity must be between 1 and {MAX_QUANTITY}."},
    )
    key = forms.UUIDField(required=False, error_messages={"invalid": "The key must be a UUID."})

    def clean_quantity(self) -> int:
        """Turn the digits into a number within bounds."""
        quantity = int(self.cleaned_data["quantity"] or 1)
        message = self.fields["quantity"].error_messages["invalid"]
        MinValueValidator(1, message)(quantity)
        MaxValueValidator(MAX_QUANTITY, message)(quantity)
        return quantity

    def clean_key(self) -> uuid.UUID:
        """Make a key for a buyer who sent none."""
        return self.cleaned_data["key"] or uuid.uuid4()
