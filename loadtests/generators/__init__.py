"""
The programs that can be the buyers.

`wrk` costs next to nothing, so that what is measured is the shop; `locust` runs
anywhere and can spread arrivals.
"""

from __future__ import annotations

from collections.abc import Callable

from loadtests.generators.base import Generator, Load
from loadtests.generators.locust import Locust
from loadtests.generators.wrk import Wrk

__all__ = ["GENERATORS", "Generator", "Load", "Locust", "Wrk", "cheapest"]

GENERATORS: dict[str, Callable[[], Generator]] = {"locust": Locust, "wrk": Wrk}


def cheapest() -> str:
    """Name the generator that takes the least from the machine, of those there are."""
    return "wrk" if Wrk.installed() else "locust"
