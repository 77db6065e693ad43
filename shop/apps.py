from importlib import import_module

from django.apps import AppConfig, apps
from django.contrib import admin
from django.contrib.admin.apps import AdminConfig


class ShopConfig(AppConfig):
    """The storefront: all that a browser meets."""

    name = "shop"

    def ready(self) -> None:
        """Have guests' orders join the account they sign in to."""
        import_module("shop.joining")


class DeskConfig(AdminConfig):
    """Django's admin, with the operator's desk as its first page."""

    default_site = "shop.desk.OperatorSite"

    def ready(self) -> None:
        """Leave the secrets of second factors out of the desk: see add_second_factor."""
        super().ready()
        admin.site.unregister(apps.get_model("otp_totp", "TOTPDevice"))
