"""
The roles of staff: groups that a migration makes, and what each may do.

A migration of this app that follows one that adds a model calls make_roles() again:
every role sees every model of the two apps, and what is there already is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps.registry import Apps
from django.contrib.auth.management import create_permissions

VIEWER, OPERATOR, LAB = "viewer", "operator", "lab"
ROLES = (VIEWER, OPERATOR, LAB)
MAY_DO = {
    OPERATOR: [
        "inventory.add_product",
        "inventory.change_product",
        "inventory.correct_stock",
        "inventory.cancel_order",
    ],
    LAB: ["loadtests.start_run"],
}
"""Beside seeing, which all of them may."""


def make_roles(apps: Apps) -> None:
    """Make the groups where they are missing, and give each what it may do."""
    for app_label in ("inventory", "loadtests"):
        make_permissions(apps, app_label)
        let_view(apps, app_label)
    for role, permissions in MAY_DO.items():
        let_do(apps, role, permissions)


def make_permissions(apps: Apps, app_label: str) -> None:
    """Make an app's permissions now, rather than when all migrations are through."""
    config: Any = apps.get_app_config(app_label)
    config.models_module = getattr(config, "models_module", True)  # a migration's app has none
    create_permissions(config, verbosity=0, apps=apps)


def let_view(apps: Apps, app_label: str) -> None:
    """Let every role see every model that an app has by now."""
    seen = _permissions(apps).filter(
        content_type__app_label=app_label, codename__startswith="view_"
    )
    for role in ROLES:
        _group(apps, role).permissions.add(*seen)


def let_do(apps: Apps, role: str, permissions: Sequence[str]) -> None:
    """Give a role permissions, each named “app.codename”. Raises DoesNotExist."""
    for name in permissions:
        app_label, codename = name.split(".")
        found = _permissions(apps).get(content_type__app_label=app_label, codename=codename)
        _group(apps, role).permissions.add(found)


def _permissions(apps: Apps) -> Any:
    return apps.get_model("auth", "Permission").objects


def _group(apps: Apps, role: str) -> Any:
    return apps.get_model("auth", "Group").objects.get_or_create(name=role)[0]
