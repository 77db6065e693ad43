"""Runs as the operator sees them: every figure, the audit's findings, nothing to edit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from loadtests.models import LoadRun


@admin.register(LoadRun)
class LoadRunAdmin(admin.ModelAdmin):
    """The history of load runs."""

    list_display = (
        "id",
        "strategy",
        "status",
        "sold",
        "oversold",
        "sales_per_s",
        "units",
        "buyers",
        "arrival",
        "database",
        "started_at",
    )
    list_display_links = ("id", "strategy")
    list_filter = ("status", "strategy", "server", "database")
    fieldsets = (
        (None, {"fields": ("status", "findings", "strategy", "server", "database")}),
        ("The load", {"fields": ("units", "buyers", "arrival")}),
        ("Before the load", {"fields": ("opening_available", "opening_version", "started_at")}),
        ("What happened", {"fields": ("figures", "finished_at")}),
        ("What it ran on", {"fields": ("environment",)}),
    )
    readonly_fields = ("arrival", "findings", "figures", "environment")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Runs are made by running."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: LoadRun | None = None) -> bool:
        """Nobody changes history."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: LoadRun | None = None) -> bool:
        """Nobody deletes history."""
        return False

    @admin.display
    def arrival(self, run: LoadRun) -> str:
        """Say how the buyers came."""
        if run.within_s:
            return f"within {run.within_s:g} s"
        return f"{run.concurrency} at a time" if run.concurrency else "–"

    @admin.display(description="audit's findings")
    def findings(self, run: LoadRun) -> str:
        """List all that did not fit."""
        audit = run.result.get("audit", {})
        found = audit.get("findings", [])
        if not found:
            return "none: the books agree" if run.status == LoadRun.Status.PASSED else "–"
        lines = format_html_join("", "<li>{}: {}</li>", ((f["code"], f["text"]) for f in found))
        more = audit.get("total", len(found)) - len(found)
        return format_html("<ul>{}</ul>{}", lines, f"… and {more} more" if more else "")

    @admin.display
    def figures(self, run: LoadRun) -> SafeString:
        """Show every figure of the run."""
        shown = {k: v for k, v in run.result.items() if k not in ("audit", "environment")}
        return _table(shown)

    @admin.display
    def environment(self, run: LoadRun) -> SafeString:
        """Show the machine, the versions and the settings."""
        return _table(run.result.get("environment", {}))


def _table(values: dict[str, Any]) -> SafeString:
    lines = format_html_join("", "<tr><th>{}</th><td>{}</td></tr>", _flat(values))
    return format_html("<table>{}</table>", lines)


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", "–" if value is None else str(value)
