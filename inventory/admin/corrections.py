"""One product's stock changed by hand: asked, shown before and after, then written."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from inventory import adjustments
from inventory.adjustments import MAX_UNITS, Seen
from inventory.admin.pages import actor_of, count_of, find_product, page_context, require
from inventory.admin.stock_forms import AdjustmentForm, ResetForm
from inventory.books import Snapshot
from inventory.errors import InventoryError, StockBusy, StockMoved
from inventory.models import Movement, Product
from inventory.retries import outage_as

TOO_OLD = gettext_lazy("This page does not say what it showed. Look at it again, then go on.")


class _AtAVersion(forms.Form):
    """Carries the version of the stock row that the page showed."""

    seen_version = forms.IntegerField(
        min_value=0,
        max_value=2**63 - 1,
        widget=forms.HiddenInput,
        error_messages=dict.fromkeys(("required", "invalid", "min_value", "max_value"), TOO_OLD),
    )


class AdjustOneForm(_AtAVersion, AdjustmentForm):
    """Units to add to one product or take from it."""

    title = gettext_lazy("Restock or correct")
    tab = "adjust"
    sales_may_follow = forms.BooleanField(
        label=gettext_lazy("Whatever is sold meanwhile"),
        required=False,
        help_text=gettext_lazy(
            "For a sale under way: change by this number even when units are sold after you looked."
            " Without it, nothing is changed once the stock has moved, and you are asked again."
        ),
    )

    def after(self, available: int) -> int:
        """Units that would be available."""
        return available + int(self.cleaned_data["delta"])

    def write(self, product: Product, actor: str) -> Movement:
        """Change the stock. Raises AdjustmentRefused."""
        answers = self.cleaned_data
        return adjustments.adjust(
            product_id=product.pk,
            delta=answers["delta"],
            kind=Movement.Kind(answers["kind"]),
            reason=answers["reason"],
            actor=actor,
            seen=Seen(
                version=answers["seen_version"], sales_may_follow=answers["sales_may_follow"]
            ),
        )


class ResetOneForm(_AtAVersion, ResetForm):
    """Units to be available of one product; what comes next shows what that means."""

    title = gettext_lazy("Reset")
    tab = "reset"

    def after(self, available: int) -> int:
        """Units that would be available."""
        return int(self.cleaned_data["units"])

    def write(self, product: Product, actor: str) -> Movement:
        """Reset the stock. Raises AdjustmentRefused."""
        answers = self.cleaned_data
        [movement] = adjustments.reset(
            slugs=[product.slug],
            units=answers["units"],
            reason=answers["reason"],
            actor=actor,
            seen=Seen(version=answers["seen_version"]),
        )
        return movement


StockForm = AdjustOneForm | ResetOneForm


def change_stock(
    model_admin: admin.ModelAdmin,
    request: HttpRequest,
    product_id: int,
    form_class: type[StockForm],
) -> HttpResponse:
    """Ask, show before and after, and write on “apply”, unless the stock moved since it showed."""
    require(request, "inventory.correct_stock")
    product = find_product(product_id)
    asked = request.method == "POST"
    form = form_class(request.POST if asked else None)
    moved = None
    if asked and form.is_valid():
        if "apply" in request.POST:
            moved = _write(model_admin, request, product, form)
            if moved is None and not form.errors:
                page = reverse("admin:inventory_product_change", args=[product.pk])
                return HttpResponseRedirect(page)
            product = find_product(product_id)
        _check(form, count_of(product).available)
    now = count_of(product)
    confirming = asked and form.is_valid() and "back" not in request.POST
    context = page_context(
        model_admin, request, str(form_class.title), product=product, tab=form_class.tab, form=form
    )
    context |= {"now": now, "confirming": confirming, **_seen(form, now, confirming)}
    return render(request, "inventory/product_stock.html", context)


def _write(
    model_admin: admin.ModelAdmin, request: HttpRequest, product: Product, form: StockForm
) -> StockMoved | None:
    """Write it and say so; put a refusal into the form."""
    try:
        with outage_as(StockBusy):
            movement = form.write(product, actor_of(request))
    except StockMoved as error:
        messages.error(request, str(error))
        return error
    except InventoryError as error:
        form.add_error(None, str(error))
        return None
    model_admin.log_change(request, product, in_words(movement, kind=movement.kind))
    said = in_words(movement, kind=movement.get_kind_display())
    messages.success(request, f"{product}: {said}")
    return None


def in_words(movement: Movement, *, kind: str | Promise) -> str:
    """Say what a movement changed, and why."""
    before = movement.available_after - movement.delta
    return f"{kind} {movement.delta:+d}: {before} → {movement.available_after} ({movement.reason})"


def _check(form: StockForm, available: int) -> None:
    """Refuse before asking to confirm what would be refused afterwards."""
    if form.is_valid() and not 0 <= form.after(available) <= MAX_UNITS:
        text = _("That would leave %(after)d units; there can be 0 to %(most)d.")
        form.add_error(None, text % {"after": form.after(available), "most": MAX_UNITS})


def _seen(form: StockForm, now: Snapshot, confirming: bool) -> dict[str, Any]:
    """What the confirming page tells: the count afterwards, and what happened meanwhile."""
    if not confirming:
        return {}
    after = form.after(now.available)
    return {
        "after": after,
        "change": f"{after - now.available:+d}",
        "moved_by": now.version - form.cleaned_data["seen_version"],
    }
