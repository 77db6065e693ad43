"""Runs as the operator sees them: every figure, the audit's findings, nothing to edit."""

from __future__ import annotations

import json
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
        "started_at",
        "strategy",
        "load",
        "server",
        "database",
        "sold",
        "oversold",
        "sales_per_s",
        "status",
    )
    list_display_links = ("id", "started_at")
    list_filter = ("status", "strategy", "server", "database")
    fieldsets = (
        (None, {"fields": ("status", "findings", "strategy", "load", "server", "database")}),
        ("Before the load", {"fields": ("opening_available", "opening_version", "started_at")}),
        ("What happened", {"fields": ("figures", "finished_at")}),
        ("What it ran on", {"fields": ("environment",)}),
    )
    readonly_fields = ("load", "findings", "figures", "environment")

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
    def load(self, run: LoadRun) -> str:
        """Say what was asked of the shop."""
        how = f"within {run.within_s:g} s" if run.within_s else f"{run.concurrency} at a time"
        return f"{run.units} units, {run.buyers} buyers {how}"

    @admin.display(description="audit's findings")
    def findings(self, run: LoadRun) -> str:
        """List all that did not fit."""
        found = run.result.get("audit", {}).get("findings", [])
        if not found:
            return "none: the books agree" if run.status == LoadRun.Status.PASSED else "–"
        lines = format_html_join("", "<li>{}: {}</li>", ((f["code"], f["text"]) for f in found))
        return format_html("<ul>{}</ul>", lines)

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
    rows = ((name, _plain(value)) for name, value in values.items())
    lines = format_html_join("", "<tr><th>{}</th><td>{}</td></tr>", rows)
    return format_html("<table>{}</table>", lines)


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)
