"""How the stock of a product came to be what it is: a chart, and who changed it by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.db import connection
from django.utils.translation import gettext as _

from inventory.admin.ledger import with_names
from inventory.admin.pages import count_of
from inventory.charts import Chart, Series
from inventory.models import Movement, Product

SAMPLES = 150
"""Movements spread evenly over all versions."""
LATEST = 50
OF_EACH_KIND = 20
BY_HAND = (Movement.Kind.RESTOCK, Movement.Kind.CORRECTION, Movement.Kind.RESET)
NO_SALES = (*BY_HAND, Movement.Kind.CANCELLATION, Movement.Kind.EXPIRY)
SHOWN_BY_HAND = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Since:
    """What sales and returns made of the stock since the last change by hand."""

    movement: Movement
    who: str
    writes: int
    units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Read from at most 300 movements, however many there are."""

    chart: Chart
    by_hand: list[tuple[Movement, str]]
    since: Since | None


def history_of(product: Product) -> History:
    """Read a bounded number of movements by the indexes (product, version) and with the kind."""
    now = count_of(product)
    others = _latest_no_sales(product.pk)
    points = {m.version: m for m in [*_spread(product.pk, now.version), *others]}
    by_hand = sorted(
        (m for m in others if m.kind in BY_HAND), key=lambda m: m.version, reverse=True
    )
    named = with_names(by_hand[:SHOWN_BY_HAND])
    since = None
    if named:
        last, who = named[0]
        since = Since(
            movement=last,
            who=who,
            writes=now.version - last.version,
            units=now.available - last.available_after,
        )
    chart = _chart([points[version] for version in sorted(points)], now.version)
    return History(chart=chart, by_hand=named, since=since)


def _spread(product_id: int, top: int) -> Iterable[Movement]:
    """The latest movements, and some between the first and them."""
    versions = {round(1 + (top - 1) * part / SAMPLES) for part in range(SAMPLES)}
    versions |= set(range(max(1, top - LATEST + 1), top + 1))
    return Movement.objects.filter(product_id=product_id, version__in=versions if top else [])


def _latest_no_sales(product_id: int) -> list[Movement]:
    rows = Movement.objects.filter(product_id=product_id).order_by("-version")
    each = [rows.filter(kind=kind)[:OF_EACH_KIND] for kind in NO_SALES]
    if connection.features.supports_slicing_ordering_in_compound:
        return list(each[0].union(*each[1:], all=True))
    return [movement for some in each for movement in some]


def _chart(points: list[Movement], top: int) -> Chart:
    shown = {"points": len(points), "all": top}
    if len(points) >= top:
        summary = _("All %(all)d movements; those that are no sales are marked.") % shown
    else:
        summary = _(
            "%(points)d of %(all)d movements: the last %(latest)d, the last %(each)d of each"
            " kind that is no sale (marked), and %(spread)d spread evenly over all."
        ) % {**shown, "latest": LATEST, "each": OF_EACH_KIND, "spread": SAMPLES}
    return Chart(
        key="stock-history",
        kind="steps",
        title=_("Available over time"),
        summary=summary,
        x=_("Time (UTC)"),
        y=_("Units available"),
        labels=[round(m.created_at.timestamp(), 3) for m in points],
        times=True,
        series=[
            Series(
                name=_("Available"),
                values=[m.available_after for m in points],
                marks=[_mark(m) for m in points],
            )
        ],
    )


def _mark(movement: Movement) -> str:
    if movement.kind == Movement.Kind.SALE:
        return ""
    text = f"{movement.get_kind_display()} {movement.delta:+d}"
    return f"{text}: {movement.reason}" if movement.reason else text
