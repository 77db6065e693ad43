"""
Charts of a benchmark, as SVG whose text stays text.

Drawn from the benchmark's JSON, so that they can be drawn again. matplotlib is a
development dependency: without it `draw` raises ImportError.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

LOOKS = {
    "optimistic": ("#E69F00", "o", "-"),
    "pessimistic": ("#0072B2", "s", "-"),
    "redis_lock": ("#CC79A7", "^", "--"),
    "conditional_update": ("#009E73", "D", "-"),
    "stored_procedure": ("#D55E00", "v", "-."),
    "group_commit": ("#56B4E9", "P", "--"),
    "redis_counter": ("#000000", "X", ":"),
}
"""Colour (Okabe and Ito's, safe for the colour-blind), marker and dashes of each strategy."""
OTHER_LOOK = ("#666666", "*", "-")
SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "last-unit",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
SERVERS = {"wsgi": "wsgi (threads)", "asgi": "asgi (one event loop a worker)"}
PERCENTILES = {"p50": "o", "p95": "|", "p99": "D"}
GREY = "#767676"


def draw(report: dict[str, Any], *, throughput: Path, latency: Path) -> list[str]:
    """
    Draw goodput against concurrency, and the latency of sales at the headline load.

    Gives the names of what was drawn: nothing where no audited sale was made.
    """
    import matplotlib as mpl

    if not _strategies(report["cells"]):
        return []
    with mpl.rc_context(SETTINGS):
        _save(_throughput(report), throughput)
        _save(_latency(report), latency)
    return ["throughput", "latency"]


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None, "Creator": None})


def _panels(report: dict[str, Any], height: float) -> tuple[Any, list[Any], list[str]]:
    from matplotlib.figure import Figure

    servers = list(dict.fromkeys(cell["server"] for cell in report["cells"]))
    figure = Figure(figsize=(6.2 * len(servers) + 1.6, height), layout="constrained")
    axes = figure.subplots(1, len(servers), sharex=True, sharey=True, squeeze=False)[0]
    return figure, list(axes), servers


def _throughput(report: dict[str, Any]) -> Any:
    figure, axes, servers = _panels(report, 5.2)
    for axis, server in zip(axes, servers, strict=True):
        cells = [cell for cell in report["cells"] if cell["server"] == server]
        cells.sort(key=lambda cell: int(cell["concurrency"]))
        for name in _strategies(cells):
            points = [(c["concurrency"], s) for c in cells if (s := _speed(c, name)) is not None]
            colour, marker, dashes = LOOKS.get(name, OTHER_LOOK)
            axis.plot(
                *zip(*points, strict=True),
                color=colour,
                marker=marker,
                linestyle=dashes,
                markersize=7,
                linewidth=1.8,
                label=_label(name, cells),
            )
        ceilings = [
            (c["concurrency"], median(c["ceilings_per_s"])) for c in cells if c["ceilings_per_s"]
        ]
        axis.plot(
            *zip(*ceilings, strict=True),
            color=GREY,
            linestyle=(0, (1, 1.5)),
            linewidth=1.5,
            label="ceiling: a page that does nothing",
        )
        _finish_throughput(axis, server, [cell["concurrency"] for cell in cells])
    axes[0].set_ylabel("sales a second (log scale)")
    _legend(figure, axes)
    figure.suptitle("Sales a second, by how many buy at the same time", fontweight="bold")
    return figure


def _finish_throughput(axis: Any, server: str, concurrencies: list[int]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(FixedLocator(concurrencies))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_minor_locator(FixedLocator([]))
    axis.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.yaxis.set_minor_locator(FixedLocator([]))
    axis.grid(axis="y", color="#dddddd", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_xlabel("buyers at a time (log scale)")
    axis.set_title(SERVERS.get(server, server), loc="left")


def _latency(report: dict[str, Any]) -> Any:
    cells = [cell for cell in report["cells"] if cell["concurrency"] == report["headline"]]
    names = _strategies(cells)
    figure, axes, servers = _panels({"cells": cells}, 1.7 + 0.55 * len(names))
    for axis, server in zip(axes, servers, strict=True):
        cell = next(cell for cell in cells if cell["server"] == server)
        for row, name in enumerate(names):
            times = _times(cell, name)
            if times:
                _latency_row(axis, row, times, LOOKS.get(name, OTHER_LOOK)[0])
        axis.set_yticks(range(len(names)), [_label(name, cells) for name in names])
        axis.set_xlim(left=0)
        axis.margins(x=0.12)
        axis.grid(axis="x", color="#dddddd", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.set_xlabel("milliseconds from the wish to the answer")
        axis.set_title(SERVERS.get(server, server), loc="left")
    axes[0].set_ylim(len(names) - 0.5, -0.8)
    _percentile_legend(figure)
    buyers = f"{report['headline']} buyers at a time"
    figure.suptitle(f"How long a sale takes, {buyers}", fontweight="bold")
    return figure


def _latency_row(axis: Any, row: int, times: dict[str, float], colour: str) -> None:
    axis.plot([times["p50"], times["p99"]], [row, row], color=colour, linewidth=2.5, zorder=2)
    for name, marker in PERCENTILES.items():
        hollow = "white" if name == "p99" else colour
        axis.plot(
            times[name],
            row,
            marker=marker,
            color=colour,
            markerfacecolor=hollow,
            markersize=13 if marker == "|" else 8,
            markeredgewidth=2,
            zorder=3,
        )
    axis.annotate(
        f"{times['p50']:.0f}",
        (times["p50"], row),
        xytext=(0, 9),
        textcoords="offset points",
        ha="center",
        fontsize=9,
    )
    axis.annotate(
        f"{times['p99']:.0f}",
        (times["p99"], row),
        xytext=(9, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
    )


def _legend(figure: Any, axes: list[Any]) -> None:
    """One legend for all panels, each strategy once."""
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=4, frameon=False)


def _percentile_legend(figure: Any) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            color="#444444",
            marker=marker,
            linestyle="",
            markersize=8,
            markeredgewidth=2,
            markerfacecolor="white" if name == "p99" else "#444444",
            label={"p50": "half within", "p95": "95 % within", "p99": "99 % within"}[name],
        )
        for name, marker in PERCENTILES.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)


def _strategies(cells: list[dict[str, Any]]) -> list[str]:
    """Those with a speed to show, in the order of their looks: a failed audit has none."""
    seen = dict.fromkeys(name for cell in cells for name in cell["runs"])
    shown = [n for n in seen if any(_speed(cell, n) is not None for cell in cells)]
    places = {name: place for place, name in enumerate(LOOKS)}
    return sorted(shown, key=lambda name: places.get(name, len(places)))


def _speed(cell: dict[str, Any], name: str) -> float | None:
    runs = cell["runs"].get(name, [])
    speeds = [run["sales_per_s"] for run in runs if run["audit"]["ok"] and run["sales_per_s"]]
    return median(speeds) if speeds and len(speeds) == len(runs) else None


def _times(cell: dict[str, Any], name: str) -> dict[str, float] | None:
    if _speed(cell, name) is None:
        return None
    seen = [run["latency_ms"]["sold"] for run in cell["runs"][name]]
    return {percentile: median(times[percentile] for times in seen) for percentile in PERCENTILES}


def _label(name: str, cells: list[dict[str, Any]]) -> str:
    accepted = any(run.get("accepted") for cell in cells for run in cell["runs"].get(name, []))
    return f"{name} (accepted, written later)" if accepted else name
