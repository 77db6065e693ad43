from django.apps import AppConfig


class InventoryConfig(AppConfig):
    """The domain: products, stock, orders and the ledger."""

    name = "inventory"
    verbose_name = "Inventory"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks."""
        from inventory import checks  # noqa: F401
