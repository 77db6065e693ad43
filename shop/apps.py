from importlib import import_module

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """The storefront: all that a browser meets."""

    name = "shop"

    def ready(self) -> None:
        """Have guests' orders join the account they sign in to."""
        import_module("shop.joining")
