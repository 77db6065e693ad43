from __future__ import annotations

import uuid

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator

from inventory.purchases import MAX_QUANTITY

QUANTITY_PROBLEM = f"Quantity must be between 1 and {MAX_QUANTITY}."
KEY_PROBLEM = "The key must be a UUID."


class PurchaseForm(forms.Form):
    """What a buyer sends: quantity and key."""

    quantity = forms.RegexField(
        r"\A[0-9]{1,9}\Z",
        error_messages={"required": QUANTITY_PROBLEM, "invalid": QUANTITY_PROBLEM},
    )
    key = forms.RegexField(
        r"\A[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\Z",
        error_messages={"required": KEY_PROBLEM, "invalid": KEY_PROBLEM},
    )

    def clean_quantity(self) -> int:
        """Turn the digits into a number within bounds."""
        quantity = int(self.cleaned_data["quantity"])
        MinValueValidator(1, QUANTITY_PROBLEM)(quantity)
        MaxValueValidator(MAX_QUANTITY, QUANTITY_PROBLEM)(quantity)
        return quantity

    def clean_key(self) -> uuid.UUID:
        """Turn the text into a key."""
        return uuid.UUID(self.cleaned_data["key"])
