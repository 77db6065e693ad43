"""Load runs at the operator's desk."""

from loadtests.admin import runs

__all__ = ["runs"]
