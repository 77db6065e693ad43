"""Which address a client comes from."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """
    Say which IP address the client has; empty where the server was not told.

    Behind TRUSTED_PROXIES = n proxies it is the n-th entry from the right of
    X-Forwarded-For: what those wrote themselves. All left of it a client can make up.
    """
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    trusted = settings.TRUSTED_PROXIES
    told = forwarded[-trusted] if 0 < trusted <= len(forwarded) else ""
    return _spelled(told) or _spelled(request.META.get("REMOTE_ADDR", ""))


def _spelled(text: str) -> str:
    """Spell each address in one way only; empty for what is none."""
    try:
        address = ipaddress.ip_address(text.strip().partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
