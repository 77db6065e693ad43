"""What the shop's tests share."""

from inventory.tests.conftest import own_redis, start_redis

__all__ = ["own_redis", "start_redis"]
