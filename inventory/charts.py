"""Charts as data: drawn in the browser by static/inventory/charts.js, beside the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Number = int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line, or one colour of bars: a value for each label, None where there is none."""

    name: str
    values: Sequence[Number | None]
    spread: Sequence[tuple[Number, Number] | None] | None = None
    """The lowest and highest behind each value, drawn over its bar."""
    marks: Sequence[str] | None = None
    """What is to be said of each point, shown with it; empty where nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """
    A chart and its text alternative.

    `labels` are numbers for lines and steps (a step holds its value until the next), names
    for bars. Values are what the table under the chart shows, digit by digit.
    """

    key: str
    """Names it within its page."""
    kind: Literal["line", "steps", "bars"]
    title: str
    summary: str
    """What a reader would see in it, in a sentence."""
    x: str
    y: str
    """What the axes measure, with the unit."""
    labels: Sequence[Number | str]
    series: Sequence[Series]
    log_x: bool = False
    times: bool = False
    """Labels are moments, in seconds since 1970; people read them in UTC."""

    def data(self) -> dict[str, Any]:
        """All that the browser needs."""
        return {
            "kind": self.kind,
            "x": self.x,
            "y": self.y,
            "labels": list(self.labels),
            "log_x": self.log_x,
            "times": self.times,
            "series": [
                {
                    "name": series.name,
                    "values": list(series.values),
                    "spread": series.spread and list(series.spread),
                    "marks": series.marks and list(series.marks),
                }
                for series in self.series
            ],
        }

    def header(self) -> list[str]:
        """The columns of its table."""
        return [self.x, *(series.name for series in self.series)]

    def rows(self) -> list[list[str]]:
        """Its numbers, a line for each label."""
        return [
            [self._told(label), *(_cell(series, at) for series in self.series)]
            for at, label in enumerate(self.labels)
        ]

    def _told(self, label: Number | str) -> str:
        if not self.times:
            return str(label)
        return f"{datetime.fromtimestamp(float(label), UTC):%Y-%m-%d %H:%M:%S}"


def _cell(series: Series, at: int) -> str:
    value = series.values[at]
    if value is None:
        return "–"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    spread = series.spread[at] if series.spread else None
    if spread is not None and spread[0] != spread[1]:
        text += f" ({spread[0]:g}–{spread[1]:g})"
    mark = series.marks[at] if series.marks else ""
    return f"{text} {mark}".rstrip()
