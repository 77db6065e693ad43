"""What the desk's own pages have in common: who may see them, of which product they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest
from django.utils.translation import gettext as _

from inventory.books import Snapshot
from inventory.models import Product

LONGEST_ID = 18
"""Digits of a user's number; more is none."""


def require(request: HttpRequest, permission: str) -> None:
    """Raise PermissionDenied for who has not got it."""
    if not request.user.has_perm(permission):
        raise PermissionDenied


def find_product(product_id: int) -> Product:
    """Find a product with its stock row. Raises Http404."""
    product = Product.objects.select_related("stock").filter(pk=product_id).first()
    if product is None:
        raise Http404(_("There is no such product."))
    return product


def count_of(product: Product) -> Snapshot:
    """Say what the stock row says; nothing where there is none yet."""
    if not hasattr(product, "stock"):
        return Snapshot()
    return Snapshot(available=product.stock.available, version=product.stock.version)


def actor_of(request: HttpRequest) -> str:
    """Name who writes, as the ledger does."""
    return f"user:{request.user.pk}"


def names_of(actors: Iterable[str]) -> dict[str, str]:
    """Name the users among actors and buyers, in one query: “user:5” is “ada”."""
    ids = {}
    for actor in actors:
        kind, _colon, number = actor.partition(":")
        if kind == "user" and number.isascii() and number.isdecimal() and len(number) <= LONGEST_ID:
            ids[actor] = int(number)
    if not ids:
        return {}
    user = get_user_model()
    names = user._default_manager.filter(pk__in=set(ids.values())).values_list(
        "pk", user.USERNAME_FIELD
    )
    known = dict(names)
    return {actor: known[pk] for actor, pk in ids.items() if pk in known}


def page_context(
    model_admin: admin.ModelAdmin, request: HttpRequest, title: str, **more: Any
) -> dict[str, Any]:
    """Put together what the admin's templates need."""
    return {
        **model_admin.admin_site.each_context(request),
        "title": title,
        "opts": model_admin.opts,
        **more,
    }
