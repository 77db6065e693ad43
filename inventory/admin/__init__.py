"""The operator's desk: stock is looked at here, and moved only through the ledger."""

from inventory.admin import movements, orders, products

__all__ = ["movements", "orders", "products"]
