"""Runs as the operator sees them: every figure, the audit's findings, nothing to edit."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.db.models.fields.json import KeyTextTransform
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.formats import date_format
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _

from inventory.admin.read_only import ReadOnlyAdmin
from loadtests.admin import groups
from loadtests.admin.run_charts import charts_of, tables_of
from loadtests.admin.wording import load_of, story_of_run, verdict
from loadtests.models import LoadRun

MOST_COMPARED = 100
BIGGEST_ID = 2**63 - 1


@admin.register(LoadRun)
class LoadRunAdmin(ReadOnlyAdmin):
    """The history of load runs."""

    list_display = (
        "strategy",
        "audit",
        "sold",
        "oversold",
        "speed",
        "share",
        "load",
        "started",
    )
    list_filter = ("status", "strategy", "server", "database")
    list_per_page = 50
    actions = ("compare_runs",)
    change_list_template = "loadtests/runs.html"
    change_form_template = "loadtests/run.html"

    def get_urls(self) -> list[URLPattern]:
        """Add the comparison of a selection, and each run's figures as a file."""
        mine = [
            path("compare/", self.admin_site.admin_view(self.compare), name="loadtests_compare"),
            path(
                "<int:pk>/figures.json",
                self.admin_site.admin_view(self.figures),
                name="loadtests_figures",
            ),
        ]
        return mine + super().get_urls()

    def get_queryset(self, request: HttpRequest) -> QuerySet[LoadRun]:
        """Leave the figures where they are: a list needs one of them."""
        accepted = KeyTextTransform("accepted", "result")
        return LoadRun.objects.seen().defer("result").annotate(accepted=accepted).order_by("-pk")

    @admin.display(description=_("load"))
    def load(self, run: LoadRun) -> str:
        """Say how many came for how many units, how, and where to."""
        return f"{load_of(run)} · {run.server} · {run.database}"

    @admin.display(description=_("started at"), ordering="started_at")
    def started(self, run: LoadRun) -> str:
        """Show when it began, in few characters."""
        return date_format(localtime(run.started_at), "SHORT_DATETIME_FORMAT")

    @admin.display(description=_("sales/s"), ordering="sales_per_s")
    def speed(self, run: LoadRun) -> str:
        """Show how fast it sold, if its audit passed."""
        if run.status != LoadRun.Status.PASSED or not run.sales_per_s:
            return "–"
        promised = str(getattr(run, "accepted", None)) not in ("None", "null", "0")
        return f"{run.sales_per_s:g} {_('accepted')}" if promised else f"{run.sales_per_s:g}"

    @admin.display(description=_("of ceiling"))
    def share(self, run: LoadRun) -> str:
        """Show its speed as a part of a page's that does nothing."""
        share = run.share_of_ceiling() if run.status == LoadRun.Status.PASSED else None
        return "–" if share is None else f"{share:.0%}"

    @admin.display(description=_("audit"), ordering="status")
    def audit(self, run: LoadRun) -> SafeString:
        """Show whether the run can be trusted."""
        return verdict(run)

    @admin.action(description=_("Compare the selected runs"), permissions=["view"])
    def compare_runs(self, request: HttpRequest, queryset: QuerySet[LoadRun]) -> HttpResponse:
        """Lead to the page that compares them."""
        ids = ",".join(map(str, queryset.values_list("pk", flat=True)[: MOST_COMPARED + 1]))
        return HttpResponseRedirect(reverse("admin:loadtests_compare") + f"?ids={ids}")

    def compare(self, request: HttpRequest) -> HttpResponse:
        """Show a selection of runs beside each other."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        ids = _ids(request.GET.get("ids", ""))
        if not ids or len(ids) > MOST_COMPARED:
            said = _("Select between 1 and %(most)s runs to compare.") % {"most": MOST_COMPARED}
            self.message_user(request, said, messages.ERROR)
            return HttpResponseRedirect(reverse("admin:loadtests_loadrun_changelist"))
        runs = list(LoadRun.objects.seen().filter(pk__in=ids).order_by("pk"))
        found = groups.groups_of(runs)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Runs compared"),
            "opts": self.opts,
            "groups": found,
            "throughput": groups.by_concurrency(found),
            "left_out": [(run, verdict(run)) for run in runs if run.status not in groups.ENDED],
            "missing": len(ids) - len(runs),
        }
        return TemplateResponse(request, "loadtests/compare.html", context)

    def figures(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Give every figure of a run as a file."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        run = LoadRun.objects.filter(pk=pk).first() if pk <= BIGGEST_ID else None
        if run is None:
            raise Http404
        response = JsonResponse(run.result, json_dumps_params={"indent": 2, "ensure_ascii": False})
        response["Content-Disposition"] = f'attachment; filename="run-{run.pk}.json"'
        return response

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Show a run: what came of it first, then its charts and all its figures."""
        run: LoadRun = kwargs["obj"]
        audit = run.result.get("audit", {})
        findings = audit.get("findings", [])
        context |= {
            "title": _("Load run %(pk)s") % {"pk": run.pk},
            "subtitle": None,
            "run": run,
            "verdict": verdict(run),
            "load": load_of(run),
            "speed": self.speed(run),
            "share": self.share(run),
            "story": story_of_run(run),
            "findings": findings,
            "more_findings": audit.get("total", len(findings)) - len(findings),
            "charts": charts_of(run),
            "tables": tables_of(run),
            "raw": json.dumps(run.result, indent=2, ensure_ascii=False),
        }
        return super().render_change_form(request, context, *args, **kwargs)


def _ids(text: str) -> list[int]:
    """Read numbers with commas between them; what is none is left out."""
    words = {word for word in text.split(",")[: 2 * MOST_COMPARED] if word.isdecimal()}
    return sorted(int(word) for word in words if len(word) <= 19 and int(word) <= BIGGEST_ID)
