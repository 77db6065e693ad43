"""
How often one buyer, and one address, may ask: exact sliding windows in Redis.

A limit spares the shop work; it guards no stock. So where Redis does not answer,
requests pass.
"""

from __future__ import annotations

import math
from ipaddress import IPv6Address, ip_address, ip_network

from django.conf import settings
from redis.exceptions import RedisError

from inventory.errors import StockBusy
from shop import redis_scripts
from shop.errors import RateLimited
from shop.redis_scripts import CircuitBreaker, Crowded, NotAsked

REST_S = 5.0
"""How long requests pass unasked after Redis failed to answer one."""
IPV6_NETWORK_BITS = 64
"""What one household or host is given, and may change its address within."""
_breaker = CircuitBreaker(rest_s=REST_S, without_it="requests pass without rate limits")


def check(scope: str, *, buyer: str, address: str) -> None:
    """
    Count a request, or raise RateLimited, by the limits of RATE_LIMITS[scope].

    One round trip to Redis, at most 0.5 s; none where there are no limits or no Redis.
    """
    keys, arguments = _asked(scope, buyer, address)
    if not keys or not _breaker.may_ask():
        return
    try:
        wait_us = redis_scripts.run("slide", keys=keys, arguments=arguments)
    except RedisError as error:
        _breaker.failed(error)
        return
    _judge(wait_us)


async def acheck(scope: str, *, buyer: str, address: str) -> None:
    """See check(). Raises StockBusy when a crowd waits to be counted: it does not pass."""
    keys, arguments = _asked(scope, buyer, address)
    if not keys:
        return
    try:
        wait_us = await redis_scripts.arun(
            "slide", keys=keys, arguments=arguments, breaker=_breaker
        )
    except Crowded as error:
        raise StockBusy from error
    except NotAsked:
        return
    except RedisError as error:
        _breaker.failed(error)
        return
    _judge(wait_us)


def _asked(scope: str, buyer: str, address: str) -> tuple[list[str], list[int]]:
    """The keys and arguments of lua/slide.lua."""
    limits = settings.RATE_LIMITS.get(scope)
    if not limits or "locks" not in settings.CACHES:
        return [], []
    keys, arguments = [f"rates:{{{scope}}}:{buyer}"], [*limits["buyer"]]
    if address:
        keys.append(f"rates:{{{scope}}}:address:{_network_of(address)}")
        arguments += limits["address"]
    return keys, arguments


def _judge(wait_us: int) -> None:
    _breaker.answered()
    if wait_us:
        raise RateLimited(retry_after_s=math.ceil(wait_us / 1_000_000))


def _network_of(address: str) -> str:
    """Name what is counted as one address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, IPV6_NETWORK_BITS), strict=False))
