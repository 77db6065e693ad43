"""The form that asks for a comparison, and how much may be asked for."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from inventory.models import CONTROL
from inventory.strategies import STRATEGIES
from loadtests.models import Comparison
from loadtests.processes import SERVERS

MOST_BUYERS = 5_000
MOST_UNITS = 100_000
MOST_AT_A_TIME = 1_000
LONGEST_S = 600
MOST_ROUNDS = 10
MOST_PURCHASES = 50_000
"""Buyers × strategies × rounds: some minutes of locust's work."""
LONGEST_ARRIVALS_S = 3_600
"""Seconds × strategies × rounds."""
MOST_WAITING = 20
STRATEGY_CHOICES = [
    (name, gettext_lazy("unguarded (control)") if name == CONTROL else name) for name in STRATEGIES
]


class StartForm(forms.ModelForm):
    """A comparison to be queued: one load, one or more strategies; all of it on the lab product."""

    strategies = forms.MultipleChoiceField(
        label=gettext_lazy("Strategies"),
        choices=STRATEGY_CHOICES,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy(
            "Each is played once in every round. The control must oversell, or nothing is proved."
        ),
    )
    server = forms.ChoiceField(
        label=gettext_lazy("Server"),
        choices=[(name, name) for name in SERVERS],
        initial="wsgi",
        help_text=gettext_lazy("wsgi: threads. asgi: one event loop in each worker."),
    )
    units = forms.IntegerField(
        label=gettext_lazy("Units"),
        min_value=0,
        max_value=MOST_UNITS,
        initial=100,
        help_text=format_lazy(gettext_lazy("0 to {most}."), most=f"{MOST_UNITS:,}"),
    )
    buyers = forms.IntegerField(
        label=gettext_lazy("Buyers"),
        min_value=1,
        max_value=MOST_BUYERS,
        initial=200,
        help_text=format_lazy(
            gettext_lazy(
                "1 to {most}, who buy one unit each. Buyers × strategies × rounds: at most {all}."
            ),
            most=f"{MOST_BUYERS:,}",
            all=f"{MOST_PURCHASES:,}",
        ),
    )
    concurrency = forms.IntegerField(
        label=gettext_lazy("Buyers at a time"),
        min_value=1,
        max_value=MOST_AT_A_TIME,
        required=False,
        help_text=format_lazy(
            gettext_lazy("1 to {most}. Fill in this or the next; this measures the ceiling too."),
            most=f"{MOST_AT_A_TIME:,}",
        ),
    )
    within_s = forms.FloatField(
        label=gettext_lazy("Or: all within seconds"),
        min_value=0.1,
        max_value=LONGEST_S,
        required=False,
        help_text=format_lazy(
            gettext_lazy("0.1 to {most}: each buyer comes at a moment of his own."), most=LONGEST_S
        ),
    )
    rounds = forms.IntegerField(
        label=gettext_lazy("Rounds"),
        min_value=1,
        max_value=MOST_ROUNDS,
        initial=3,
        help_text=format_lazy(
            gettext_lazy("1 to {most}. One round shows a difference that may be chance."),
            most=MOST_ROUNDS,
        ),
    )

    class Meta:
        model = Comparison
        fields = (
            "strategies",
            "server",
            "units",
            "buyers",
            "concurrency",
            "within_s",
            "rounds",
        )

    def clean_strategies(self) -> list[str]:
        """Each once, in the order of the registry."""
        chosen = self.cleaned_data["strategies"]
        return [name for name in STRATEGIES if name in chosen]

    def clean(self) -> dict[str, Any]:
        """Refuse two ways of coming or none, too much work in all, and too long a queue."""
        cleaned: dict[str, Any] = super().clean() or {}
        if self.errors:
            return cleaned
        if bool(cleaned["concurrency"]) == bool(cleaned["within_s"]):
            raise forms.ValidationError(
                _("Fill in either the buyers at a time or the seconds, not both.")
            )
        plays = len(cleaned["strategies"]) * cleaned["rounds"]
        _refuse_above(MOST_PURCHASES, plays * cleaned["buyers"], _("purchases in all"))
        _refuse_above(
            LONGEST_ARRIVALS_S, plays * (cleaned["within_s"] or 0), _("seconds of arrivals in all")
        )
        waiting = Comparison.objects.filter(status=Comparison.Status.QUEUED)
        if waiting.count() >= MOST_WAITING:
            raise forms.ValidationError(
                _("%(count)s comparisons wait already. Cancel some, or come back later.")
                % {"count": MOST_WAITING}
            )
        return cleaned


def _refuse_above(most: int, asked: float, what: str) -> None:
    if asked > most:
        facts = {"asked": f"{asked:,.0f}", "most": f"{most:,}"}
        raise forms.ValidationError(
            _("Too much: %(asked)s %(what)s; at most %(most)s.") % {**facts, "what": what}
        )
