"""The clients' record: what each buyer was told, and when, one JSON line per try."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path

SOLD = ("sold", "replayed")
REFUSED = ("sold_out", "not_open", "limit_reached")
ACCEPTED = "accepted"
"""Promised a unit that is not in the database yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of one buyer, as the client recorded it; moments in monotonic seconds."""

    buyer: int
    key: uuid.UUID
    quantity: int
    intended_at: float
    started_at: float
    ended_at: float
    status: int
    outcome: str
    order: uuid.UUID | None = None
    version: int | None = None
    server_timing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRecord:
    """All tries of a run, and how busy the generator was while it made them."""

    attempts: list[Attempt]
    generator_cpu_percent: float | None = None


def read_record(path: Path) -> ClientRecord:
    """Read what the generator wrote; a line cut off by a crash is left out."""
    attempts = []
    cpu_percent = None
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        if "generator_cpu_percent" in fields:
            cpu_percent = fields["generator_cpu_percent"]
            continue
        fields["key"] = uuid.UUID(fields["key"])
        fields["order"] = uuid.UUID(fields["order"]) if fields["order"] else None
        attempts.append(Attempt(**fields))
    return ClientRecord(attempts=attempts, generator_cpu_percent=cpu_percent)
