"""Results as people read them: on the terminal and in Markdown."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from statistics import median
from typing import Any, TextIO

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from loadtests.models import LoadRun

HEADER = (
    gettext_noop("strategy"),
    gettext_noop("sold"),
    gettext_noop("sold out"),
    gettext_noop("busy"),
    gettext_noop("failed"),
    gettext_noop("sales/s"),
    gettext_noop("of ceiling"),
    gettext_noop("p50 ms"),
    gettext_noop("p95 ms"),
    gettext_noop("p99 ms"),
    gettext_noop("tries"),
    gettext_noop("audit"),
)


def row(strategy: str, results: Sequence[dict[str, Any]], ceiling_per_s: float | None) -> list[str]:
    """One strategy's line: medians over its rounds, the spread behind the speed."""
    if strategy == "unguarded":
        return _control_row(results)
    trusted = [result for result in results if result["audit"]["ok"]]
    speeds = [r["sales_per_s"] for r in trusted if r["sales_per_s"]]
    whole = len(trusted) == len(results)
    latencies = [r["latency_ms"]["sold"] for r in trusted if r["latency_ms"]["sold"]]
    times = [
        f"{median(t[p] for t in latencies):.0f}" if latencies else "–"
        for p in ("p50", "p95", "p99")
    ]
    share = f"{median(speeds) / ceiling_per_s:.0%}" if whole and speeds and ceiling_per_s else "–"
    tries = [r["attempts_mean"] for r in results if r["attempts_mean"]]
    return [
        strategy,
        _spread([r["sold"] for r in results]),
        _spread([r["refused"].get("sold_out", 0) for r in results]),
        _spread([r["busy"] for r in results]),
        _spread([r["failed"] for r in results]),
        _speed(speeds, results) if whole else "–",
        share,
        *times,
        f"{median(tries):.1f}" if tries else "–",
        _("clean") if whole else _verdict(results),
    ]


def unavailable_row(strategy: str, reason: str) -> list[str]:
    """A strategy that cannot run here, with the reason where the audit would be."""
    return [strategy, *["–"] * (len(HEADER) - 2), _("not run: %(reason)s") % {"reason": reason}]


def _control_row(results: Sequence[dict[str, Any]]) -> list[str]:
    """The control has no speed to show: only whether it oversold."""
    oversold = [result["oversold"] for result in results]
    verdict = _("did NOT oversell")
    if min(oversold):
        verdict = _("oversold %(units)s, as it must") % {"units": _spread(oversold)}
    filler = ["–"] * (len(HEADER) - 3)
    return [_("unguarded (control)"), _spread([r["sold"] for r in results]), *filler, verdict]


def _verdict(results: Sequence[dict[str, Any]]) -> str:
    codes = sorted({f["code"] for r in results for f in r["audit"]["findings"]})
    return _("FAILED: %(codes)s") % {"codes": ", ".join(codes)}


def _speed(speeds: Sequence[float], results: Sequence[dict[str, Any]]) -> str:
    """What was accepted is not yet sold, and says so."""
    promised = any(result.get("accepted") for result in results)
    return _spread(speeds) + (f" {_('accepted')}" if promised and speeds else "")


def _spread(values: Sequence[float], digits: int = 0) -> str:
    if not values:
        return "–"
    low, middle, high = min(values), median(values), max(values)
    if low == high:
        return f"{middle:.{digits}f}"
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def terminal(rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER) -> str:
    """Align columns for a terminal: words to the left, figures to the right."""
    table = [header, *rows]
    words = _words(header)
    widths = [max(len(line[column]) for line in table) for column in range(len(header))]
    lines = []
    for line in table:
        cells = [
            cell.ljust(width) if column in words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([lines[0], "─" * max(map(len, lines)), *lines[1:]])


def markdown(rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER) -> str:
    """The same table for a document."""
    words = _words(header)
    rule = ["---" if column in words else "---:" for column in range(len(header))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *rows])


def _words(header: Sequence[str]) -> set[int]:
    """The columns that hold words: the first, and the audit's verdict."""
    return {0} | {column for column, name in enumerate(header) if name == "audit"}


def no_clear_winner(results: dict[str, list[dict[str, Any]]]) -> str:
    """Say which of the fastest cannot be told apart: their rounds overlap."""
    ranges = {
        name: [r["sales_per_s"] for r in rounds]
        for name, rounds in results.items()
        if name != "unguarded" and all(_is_a_speed_of_selling(r) for r in rounds)
    }
    if len(ranges) < 2:
        return ""
    ranked = sorted(ranges, key=lambda name: -median(ranges[name]))
    if len(ranges[ranked[0]]) < 2:
        return _("One round: differences may be chance.")
    level = [n for n in ranked[1:] if max(ranges[n]) >= min(ranges[ranked[0]])]
    facts = {"fastest": ranked[0], "others": ", ".join(level)}
    if not level:
        return _("Fastest: %(fastest)s; its slowest round beats every other's fastest.") % facts
    return (
        _("No significant difference between %(fastest)s and %(others)s: rounds overlap.") % facts
    )


def _is_a_speed_of_selling(result: dict[str, Any]) -> bool:
    """Whether a run may win: its audit is clean, and what it counts is sold, not promised."""
    return bool(result["audit"]["ok"] and result["sales_per_s"] and not result.get("accepted"))


class ProgressBar:
    """One line that redraws itself on a terminal, and nothing elsewhere."""

    WIDTH = 30

    def __init__(self, title: str, step: str = "", stream: TextIO = sys.stderr) -> None:
        self.title = f"{title}, {step}:" if step else title
        self.stream = stream

    def __call__(self, done: int, of: int) -> None:
        """Show `done` of `of` buyers."""
        if self.stream.isatty():
            done = min(done, of)
            filled = self.WIDTH * done // of
            bar = "█" * filled + "░" * (self.WIDTH - filled)
            self.stream.write(f"\r\033[K{self.title} {bar} {done}/{of}")
            self.stream.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self.stream.isatty():
            self.stream.write("\r\033[K")
            self.stream.flush()


def summary(run: LoadRun) -> str:
    """One run in a few lines."""
    result = run.result
    sold = result["latency_ms"]["sold"]
    how = f"within {run.within_s:g} s" if run.within_s else f"{run.concurrency} at a time"
    refused = ", ".join(f"{count} {reason}" for reason, count in result["refused"].items())
    lines = [
        f"{run.strategy} on {run.database}, {run.server}: {run.units} units,"
        f" {run.buyers} buyers, {how}",
        f"  sold {run.sold}, refused {refused or 0}, busy {result['busy']},"
        f" failed {result['failed']}, oversold {run.oversold}, undersold {result['undersold']}",
    ]
    if result["audit"]["ok"]:
        lines.append(
            f"  {run.sales_per_s or 0:g} sales/s; sold within"
            f" p50 {sold.get('p50', 0):g}, p95 {sold.get('p95', 0):g},"
            f" p99 {sold.get('p99', 0):g}, max {sold.get('max', 0):g} ms;"
            f" {result['attempts_mean'] or 0:g} tries a sale"
        )
        lines.append("  audit clean")
    for finding in result["audit"]["findings"][:10]:
        lines.append(f"  AUDIT {finding['code']}: {finding['text']}")
    hidden = result["audit"]["total"] - 10
    if hidden > 0:
        lines.append(f"  … and {hidden} more findings")
    if result.get("accepted"):
        lines.append(f"  {_drained(result)}")
    if result["generator_saturated"]:
        lines.append(f"  note: the generator was at {result['generator_cpu_percent']} % of a core")
    return "\n".join(lines)


def _drained(result: dict[str, Any]) -> str:
    if result["drain_s"] is None:
        return f"{result['accepted']} accepted; how long their writing took was not measured"
    speed = result["drained_per_s"]
    return (
        f"{result['accepted']} accepted (that is the speed above); all written"
        f" {result['drain_s']:g} s after the last{f', {speed:g} a second' if speed else ''}"
    )
