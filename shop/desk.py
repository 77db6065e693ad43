"""The operator's desk: Django's admin, whose first page says how the sales stand."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop
from django_otp.middleware import is_verified

NOT_IN_DJANGOS_CATALOGUE = (
    gettext_noop("Model name"),
    gettext_noop("Add link"),
    gettext_noop("Change or view list link"),
    gettext_noop("Error:"),
)
"""What the admin's templates say and Django has no Chinese for: ours has it."""


class OperatorSite(admin.AdminSite):
    """Django's admin site under our name, with live figures and a second factor."""

    site_header = site_title = "Last Unit"
    index_title = _("The operator's desk")
    index_template = "shop/desk/index.html"
    login_template = "shop/desk/login.html"

    @property
    def login_form(self) -> Any:  # type: ignore[override]  # nobody sets it
        """Ask for a code too where the second factor is on."""
        if not settings.STAFF_SECOND_FACTOR:
            return None
        from shop.second_factor import PasswordAndCodeForm  # it needs all apps to be there

        return PasswordAndCodeForm

    def has_permission(self, request: HttpRequest) -> bool:
        """Whether to let staff in: with the second factor on, only a session that gave a code."""
        return super().has_permission(request) and (
            not settings.STAFF_SECOND_FACTOR or is_verified(request.user)
        )

    def get_urls(self) -> list[URLResolver | URLPattern]:
        """Add the address of the live figures."""
        return [
            path("figures/", self.admin_view(self.figures), name="figures"),
            *super().get_urls(),
        ]

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        """Show the figures, for those who may see products, above the list of apps."""
        shown = _figures() if _may_see(request) else {}
        return super().index(request, {**shown, **(extra_context or {})})

    def figures(self, request: HttpRequest) -> HttpResponse:
        """Show the figures alone, for the page that shows them already."""
        if not _may_see(request):
            raise PermissionDenied
        return TemplateResponse(request, "shop/desk/figures.html", _figures())


def _may_see(request: HttpRequest) -> bool:
    return request.user.has_perm("inventory.view_product")


def _figures() -> dict[str, Any]:
    from shop.dashboard import shown_figures  # it needs all apps to be there

    return shown_figures()
