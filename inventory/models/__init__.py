"""Products, the one stock row each that counts, and the two books kept of it."""

from inventory.models.movements import Movement
from inventory.models.orders import Order, OrderQuerySet, Payment
from inventory.models.products import CONTROL, Product, ProductQuerySet, Stock

__all__ = [
    "CONTROL",
    "Movement",
    "Order",
    "OrderQuerySet",
    "Payment",
    "Product",
    "ProductQuerySet",
    "Stock",
]
