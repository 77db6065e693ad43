"""What happened, in a sentence: the first thing that a page of the lab says."""

from __future__ import annotations

from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from inventory.models import CONTROL
from loadtests.comparisons import CEILING
from loadtests.models import Comparison, LoadRun, Worker
from loadtests.scenarios import Scenario

SIGNS = {"failed": "✗", "passed": "✓", "lost": "✗"}


def verdict(of: Comparison | LoadRun) -> SafeString:
    """Its status as a coloured word with a sign, so that no colour is needed to read it."""
    state = of.state()
    sign = SIGNS.get(state.value, "")
    return format_html('<span class="verdict {}">{} {}</span>', state.value, sign, state.label)


def load_of(asked: Comparison | LoadRun) -> str:
    """Say how many buyers come for how many units, and how they come."""
    return Scenario.of(asked).title()


def story_of_run(run: LoadRun) -> str:
    """Say what came of a run, and what went wrong if something did."""
    state = run.state()
    if state == LoadRun.Status.RUNNING:
        return _("Its books are compared when it is over.")
    if state == LoadRun.Status.ABORTED:
        return _("It was interrupted before its books were compared: it says nothing.")
    if state == LoadRun.Status.FAILED:
        return _what_failed(run)
    facts = {
        "sold": run.sold,
        "units": run.units,
        "buyers": run.buyers,
        "speed": f"{run.sales_per_s or 0:g}",
    }
    if run.result.get("accepted"):
        return (
            _(
                "Accepted and later sold: %(sold)s of %(units)s units to %(buyers)s buyers,"
                " accepted at %(speed)s a second."
            )
            % facts
        )
    return _("Sold %(sold)s of %(units)s units to %(buyers)s buyers, %(speed)s a second.") % facts


def _what_failed(run: LoadRun) -> str:
    audit: dict[str, Any] = run.result.get("audit", {})
    findings = audit.get("findings", [])
    first = findings[0]["text"] if findings else _("nothing is known of why")
    more = audit.get("total", len(findings)) - 1
    said = format_html(_("So the run has no speed: {first}"), first=_in_english(first))
    if more > 0:
        others = ngettext("%(more)s more finding.", "%(more)s more findings.", more)
        said = format_html("{} {}", said, others % {"more": more})
    return said


def _in_english(text: str) -> SafeString:
    """What was said by the audit or a log, which speak one language."""
    return format_html('<span lang="en">{}</span>', text)


def story_of_comparison(comparison: Comparison, runs: list[LoadRun]) -> str:
    """Say how a comparison stands, or how it ended."""
    state = comparison.state()
    status = Comparison.Status
    if state == status.QUEUED:
        return _why_it_waits()
    if state == status.RUNNING:
        return _where_it_is(comparison, runs)
    if state == status.LOST:
        return _("Whoever played it was killed. Runs that had ended before are kept.")
    if state == status.CANCELLED:
        return _("Runs that had ended before are kept.")
    if state == status.FAILED:
        return _in_english(comparison.log.partition("\n")[0][:200])
    bad = {r.strategy for r in runs if r.status == LoadRun.Status.FAILED}
    failed = sorted(bad - {CONTROL})
    if failed:
        return _("The audit failed for %(failed)s: no speed is shown for it.") % {
            "failed": ", ".join(failed)
        }
    return _("Every audit was clean.")


def _why_it_waits() -> str:
    if Comparison.objects.filter(playing=True).exists():
        return _("Another comparison is running.")
    if Worker.any_alive():
        return _("A worker takes it in a moment.")
    return _("No worker is running. Start one with “manage.py run_queued_loads”.")


def _where_it_is(comparison: Comparison, runs: list[LoadRun]) -> str:
    if comparison.step == "server":
        return _("The server is being started.")
    over = sum(run.status != LoadRun.Status.RUNNING for run in runs)
    each = max(1, len(comparison.strategies) - len(comparison.unavailable))
    facts = {
        "round": min(comparison.rounds, over // each + 1),
        "rounds": comparison.rounds,
        "step": _("measuring the ceiling") if comparison.step == CEILING else comparison.step,
    }
    said = _("Round %(round)s of %(rounds)s: %(step)s.") % facts
    return said + " " + _("Cancelling …") if comparison.cancel_asked else said
