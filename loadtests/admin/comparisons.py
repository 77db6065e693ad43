"""Comparisons at the desk: asked for, watched, cancelled, read; nothing else to edit."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from inventory.admin.read_only import ReadOnlyAdmin
from loadtests import queue
from loadtests.admin import groups
from loadtests.admin.starting import StartForm
from loadtests.admin.wording import load_of, story_of_comparison, verdict
from loadtests.models import Comparison, LoadRun

STOP_POLLING = 286
"""htmx's own: show this, and ask no more."""
BIGGEST_ID = 2**63 - 1


@admin.register(Comparison)
class ComparisonAdmin(ReadOnlyAdmin):
    """What was asked for, how it stands, and what came of it."""

    list_display = ("id", "names", "load", "server", "rounds", "state", "asked_by", "created_at")
    list_display_links = ("id", "names")
    list_filter = ("status", "server", "asked_by")
    list_per_page = 50
    form = StartForm
    change_list_template = "loadtests/comparisons.html"
    add_form_template = "loadtests/start.html"
    change_form_template = "loadtests/comparison.html"

    def get_urls(self) -> list[URLPattern]:
        """Add the part of the page that moves, and the way to cancel."""
        view = self.admin_site.admin_view
        mine = [
            path("<int:pk>/progress/", view(self.progress), name="loadtests_progress"),
            path("<int:pk>/cancel/", view(self.cancel), name="loadtests_cancel"),
        ]
        return mine + super().get_urls()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Comparison]:
        """Tell which are lost."""
        return Comparison.objects.seen().order_by("-pk")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Whoever may start runs."""
        return request.user.has_perm("loadtests.start_run")

    @admin.display(description=_("strategies"))
    def names(self, comparison: Comparison) -> str:
        """List its strategies."""
        return ", ".join(comparison.strategies)

    @admin.display(description=_("load"))
    def load(self, comparison: Comparison) -> str:
        """Say how many came for how many units, and how."""
        return load_of(comparison)

    @admin.display(description=_("status"), ordering="status")
    def state(self, comparison: Comparison) -> SafeString:
        """Show how it stands."""
        return verdict(comparison)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Take the proposals of the form, not those of the model."""
        return {}

    def save_model(
        self, request: HttpRequest, obj: Comparison, form: forms.ModelForm[Comparison], change: bool
    ) -> None:
        """Queue what was asked for, under the name of who asked."""
        obj.asked_by = request.user.get_username()
        obj.save()

    def log_addition(self, request: HttpRequest, obj: Comparison, message: Any) -> LogEntry:
        """Say in the log what was asked for."""
        said = f"started: {', '.join(obj.strategies)}; {load_of(obj)}, rounds: {obj.rounds}"
        return super().log_addition(request, obj, said)

    def response_add(
        self, request: HttpRequest, obj: Comparison, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Lead to the page where it can be watched."""
        self.message_user(request, _("The comparison is queued."), messages.SUCCESS)
        if not self.has_view_permission(request):
            return HttpResponseRedirect(reverse("admin:index"))
        return HttpResponseRedirect(_page_of(obj.pk))

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> HttpResponse:
        """Show a comparison with all that moves in it, or the form that asks for one."""
        if kwargs.get("add"):
            context["title"] = _("Start load runs")
        else:
            context |= self._shown(request, kwargs["obj"])
        return super().render_change_form(request, context, *args, **kwargs)

    def progress(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Give the part of the page that moves; tell the page to ask no more when it is over."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        comparison = self._get(request, pk)
        status = STOP_POLLING if comparison.is_over() else 200
        shown = self._shown(request, comparison)
        return TemplateResponse(request, "loadtests/progress.html", shown, status=status)

    @method_decorator(require_POST)
    def cancel(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Take it back, or have its player end it in order."""
        if not request.user.has_perm("loadtests.start_run"):
            raise PermissionDenied
        comparison = self._get(request, pk)
        if not comparison.is_over() and queue.cancel(comparison):
            self.log_change(request, comparison, "cancelled")
            self.message_user(request, _("The comparison is being cancelled."), messages.SUCCESS)
        else:
            self.message_user(
                request, _("The comparison is over: nothing was cancelled."), messages.WARNING
            )
        if not self.has_view_permission(request):
            return HttpResponseRedirect(reverse("admin:index"))
        return HttpResponseRedirect(_page_of(pk))

    def _get(self, request: HttpRequest, pk: int) -> Comparison:
        found = self.get_queryset(request).filter(pk=pk).first() if pk <= BIGGEST_ID else None
        if found is None:
            raise Http404
        return found

    def _shown(self, request: HttpRequest, comparison: Comparison) -> dict[str, Any]:
        """What the page and its moving part say; charts only when all is over."""
        runs = list(LoadRun.objects.seen().filter(comparison=comparison).order_by("pk"))
        over = comparison.is_over()
        found = groups.groups_of(runs, comparison.unavailable) if over else []
        return {
            "title": _("Comparison %(pk)s") % {"pk": comparison.pk},
            "subtitle": None,
            "comparison": comparison,
            "load": load_of(comparison),
            "over": over,
            "verdict": verdict(comparison),
            "story": story_of_comparison(comparison, runs),
            "runs": [(run, verdict(run)) for run in runs],
            "groups": found,
            "may_cancel": not over and request.user.has_perm("loadtests.start_run"),
        }


def _page_of(pk: int) -> str:
    return reverse("admin:loadtests_comparison_change", args=[pk])
