"""The settings of a product, as an operator edits them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from inventory.errors import StrategyUnavailable
from inventory.models import Product
from inventory.pictures import as_webp
from inventory.strategies import STRATEGIES, usable

STRATEGY_CHOICES = [(name, f"{strategy.label} ({name})") for name, strategy in STRATEGIES.items()]
LONGEST_TOLD = 200
"""Characters of a value that the admin's log keeps."""


class PictureField(forms.ImageField):
    """An upload that is read as a picture of three kinds only, and kept as a small WebP."""

    def to_python(self, data: Any) -> Any:
        """Raises ValidationError for what is no picture, too heavy or too large."""
        upload = forms.FileField.to_python(self, data)
        return None if upload is None else as_webp(upload, size_bytes=upload.size)


class ProductForm(forms.ModelForm):
    """
    A product's settings; its stock is no part of them.

    Each field keeps its first value in the page, so that only what the operator
    edited is written, and not what others changed since the page was opened.
    """

    strategy = forms.ChoiceField(
        label=_("Strategy"),
        choices=STRATEGY_CHOICES,
        initial="conditional_update",
        help_text=_(
            "Safe to change during a sale: all strategies obey the same guard on the same stock"
            " row. Whoever is buying finishes by the old one; the new one reaches every web"
            " process within a second. What the Redis counter has accepted is still committed"
            " by its consumer. The change is recorded in the history of this product."
        ),
    )
    image = PictureField(
        label=_("Picture"),
        required=False,
        help_text=_("JPEG, PNG or WebP, at most 5 MB and 4000 × 4000 pixels."),
    )

    class Meta:
        model = Product
        fields = (
            "name",
            "slug",
            "description",
            "price",
            "opens_at",
            "closes_at",
            "limit_per_buyer",
            "hold_minutes",
            "admitted_per_minute",
            "image",
            "strategy",
            "is_lab",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.show_hidden_initial = not isinstance(field, PictureField)
            if isinstance(field.widget, forms.SplitDateTimeWidget):
                date, time = field.widget.widgets
                date.attrs["aria-label"] = _("%(field)s: date") % {"field": field.label}
                time.attrs["aria-label"] = _("%(field)s: time") % {"field": field.label}

    def clean_strategy(self) -> str:
        """Refuse to change to a strategy that cannot run here, and say why."""
        name: str = self.cleaned_data["strategy"]
        if self.instance.pk is None or name != self.initial.get("strategy"):
            try:
                usable(name)
            except StrategyUnavailable as error:
                raise forms.ValidationError(str(error)) from error
        return name

    def edits(self) -> str:
        """Tell each edited field's old and new value, for the admin's log."""
        return "; ".join(
            f"{name}: {_told(self.initial.get(name))} → {_told(self.cleaned_data.get(name))}"
            for name in self.changed_data
        )


def _told(value: Any) -> str:
    text = value.isoformat() if isinstance(value, datetime) else str(value or "–")
    return text if len(text) <= LONGEST_TOLD else f"{text[:LONGEST_TOLD]}…"
