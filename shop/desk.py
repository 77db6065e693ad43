"""The operator's desk: Django's admin, whose first page says how the sales stand."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _


class OperatorSite(admin.AdminSite):
    """Django's admin site, under our name."""

    site_header = site_title = "Last Unit"
    index_title = _("The operator's desk")
