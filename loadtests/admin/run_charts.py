"""One run as charts and tables: over time, by patience, by reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.utils.translation import gettext as _

from inventory.charts import Chart, Series
from loadtests.models import LoadRun

PERCENTILES = ("p50", "p95", "p99", "max")


def charts_of(run: LoadRun) -> list[Chart]:
    """The charts that a run has; how fast it was only if its audit passed."""
    charts = [_refusals(run)]
    if run.status == LoadRun.Status.PASSED:
        charts = [*_over_time(run), *_latency(run), *charts]
    return [chart for chart in charts if chart.labels]


def _over_time(run: LoadRun) -> Iterator[Chart]:
    """Runs that were made before there was such a series have none."""
    seen = run.result.get("over_time") or {}
    if not seen.get("sold"):
        return
    slice_s = seen["slice_s"]
    sold = _("accepted") if run.result.get("accepted") else _("sold")
    names = {"sold": sold, "refused": _("refused"), "busy": _("busy")}
    yield Chart(
        key="over-time",
        kind="steps",
        title=_("Answers a second, over time"),
        summary=_(
            "At most %(most)s sales and %(refused)s refusals a second, in slices of %(slice)s s;"
            " the last answer came after %(end)s s."
        )
        % {
            "most": f"{max(seen['sold']) / slice_s:g}",
            "refused": f"{max(seen['refused']) / slice_s:g}",
            "slice": f"{slice_s:g}",
            "end": f"{slice_s * len(seen['sold']):g}",
        },
        x=_("seconds since the first buyer came"),
        y=_("answers a second"),
        labels=[round(slice_s * place, 1) for place in range(len(seen["sold"]) + 1)],
        series=[
            Series(name=names[kind], values=[_rate(n, slice_s) for n in (*seen[kind], 0)])
            for kind in ("sold", "refused", "busy")
            if kind == "sold" or any(seen[kind])
        ],
    )


def _rate(count: int, slice_s: float) -> float:
    """Answers a second; 0 after the last slice, which ends the drawing where the run ended."""
    return round(count / slice_s, 2)


def _latency(run: LoadRun) -> Iterator[Chart]:
    waits: dict[str, dict[str, float]] = run.result.get("latency_ms", {})
    names = {"sold": _("sold"), "refused": _("refused")}
    shown = {kind: waits[kind] for kind in names if waits.get(kind)}
    if not shown:
        return
    said = [
        _("%(kind)s: half within %(p50)s ms, 99 of 100 within %(p99)s ms")
        % {"kind": names[kind], "p50": f"{ms.get('p50', 0):g}", "p99": f"{ms.get('p99', 0):g}"}
        for kind, ms in shown.items()
    ]
    yield Chart(
        key="latency",
        kind="bars",
        title=_("How long buyers waited for the answer"),
        summary="; ".join(said) + ".",
        x=_("percentile"),
        y=_("milliseconds from the wish to the answer"),
        labels=list(PERCENTILES),
        series=[
            Series(name=names[kind], values=[ms.get(name) for name in PERCENTILES])
            for kind, ms in shown.items()
        ],
    )


def _refusals(run: LoadRun) -> Chart:
    reasons = {
        "sold_out": _("sold out"),
        "limit_reached": _("limit reached"),
        "not_open": _("not open"),
    }
    refused: dict[str, int] = run.result.get("refused", {})
    counts = {text: refused[reason] for reason, text in reasons.items() if refused.get(reason)}
    for kind, text in {"busy": _("busy"), "failed": _("failed")}.items():
        if run.result.get(kind):
            counts[text] = run.result[kind]
    said = ", ".join(f"{count} {text}" for text, count in counts.items())
    return Chart(
        key="refusals",
        kind="bars",
        title=_("Who went away without a unit, and why"),
        summary=said + ".",
        x=_("reason"),
        y=_("buyers"),
        labels=list(counts),
        series=[Series(name=_("buyers"), values=list(counts.values()))],
    )


def tables_of(run: LoadRun) -> list[tuple[str, list[tuple[str, str]]]]:
    """Every other figure, by what it is about; empty tables are left out."""
    result = run.result
    tries = {
        _("tries a sale"): result.get("attempts_mean"),
        _("units left although wanted"): result.get("undersold"),
    }
    generator = {
        name: result.get(name)
        for name in ("generator", "generator_cpu_percent", "generator_saturated")
    }
    timing = result.get("timing_ms", {}) if run.status == LoadRun.Status.PASSED else {}
    parts: list[tuple[str, dict[str, Any]]] = [
        (_("Where the time went, median ms of a sale"), timing),
        (_("Attempts"), tries),
        (_("InnoDB's counters over the run"), result.get("innodb", {})),
        (_("What it cost"), result.get("cost", {})),
        (_("Who made the load"), generator),
        (_("What it ran on"), result.get("environment", {})),
    ]
    made = [(title, list(_flat(values))) for title, values in parts]
    return [(title, rows) for title, rows in made if rows]


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        elif isinstance(value, list):
            yield f"{prefix}{name}", ", ".join(map(str, value)) or "–"
        elif value is not None:
            yield f"{prefix}{name}", str(value)
