from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loadtests.records import ClientRecord

Progress = Callable[[int, int], None]


def no_progress(done: int, of: int) -> None:
    """Show nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """`buyers` of a product, `users` at a time or spread `within_s`, and where to note it."""

    host: str
    product: str
    buyers: int
    users: int
    record: Path
    limit_s: float
    within_s: float | None = None
    seed: int = 1


class Generator(ABC):
    """A program that sends the purchases and writes down what each buyer was told."""

    name: str
    opens_pages_beforehand = False
    """Whether the load is purchases only, so that what it cost is what they cost."""

    @abstractmethod
    def prepare(self, load: Load) -> None:
        """
        Do what must be done before the load, at no cost to it.

        Raises CommandError when this load cannot be made by this generator.
        """

    @abstractmethod
    def buy(self, load: Load, progress: Progress = no_progress) -> ClientRecord:
        """Send the load, for `limit_s` at most, and read the clients' record of it."""

    @abstractmethod
    def ceiling_per_s(self, *, host: str, concurrency: int, directory: Path) -> float:
        """
        Measure answers per second of a page that does nothing, driven the same way.

        Raises CommandError when any answer is missing or wrong.
        """


def lines_in(record: Path) -> int:
    """Count the lines written so far."""
    return record.read_bytes().count(b"\n") if record.exists() else 0


def seconds_until(deadline: float) -> float:
    """Say how long there is to a moment of time.monotonic(), never less than 0."""
    return max(0.0, deadline - time.monotonic())
