from django.apps import AppConfig


class ShopConfig(AppConfig):
    """The storefront: all that a browser meets."""

    name = "shop"
