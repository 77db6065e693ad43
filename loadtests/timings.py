"""Where a purchase's time went, from the Server-Timing headers of its answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import median


def parse(header: str) -> dict[str, float]:
    """
    Read the numbers of a Server-Timing header, by name.

    `queue;dur=1.2` is milliseconds; a count comes as `attempts;desc="2"`.
    Whatever has no number is left out.
    """
    numbers = {}
    for metric in header.split(","):
        name, *parameters = (part.strip() for part in metric.split(";"))
        values = dict(parameter.partition("=")[::2] for parameter in parameters)
        number = _number(values.get("dur", values.get("desc", "")))
        if name and number is not None:
            numbers[name] = number
    return numbers


def medians(headers: Iterable[str]) -> dict[str, float]:
    """Give the median of every name over the answers that have it."""
    seen = defaultdict(list)
    for header in headers:
        for name, number in parse(header).items():
            seen[name].append(number)
    return {name: round(median(numbers), 2) for name, numbers in seen.items()}


def _number(text: str) -> float | None:
    try:
        return float(text.strip().strip('"'))
    except ValueError:
        return None
