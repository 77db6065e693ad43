"""From the raw facts that wrk.lua writes to the clients' record; see there for its lines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loadtests.answers import told

NOTHING = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A purchase sent, or (with a status) an answer read, at a moment in monotonic seconds."""

    key: str
    at: float
    status: int | None = None
    server_timing: str = ""
    body: str = ""


def facts(raw: Path) -> list[Fact]:
    """Read all that happened; a line cut off is left out."""
    text = raw.read_text(errors="replace") if raw.exists() else ""
    read = (_fact(line.split("\t")) for line in text.split("\n")[:-1])
    return [fact for fact in read if fact is not None]


def answers_in(raw: Path) -> int:
    """Count the purchases answered so far."""
    if not raw.exists():
        return 0
    lines = raw.read_bytes().split(b"\n")
    return sum(line.startswith(b"<") and not line.endswith(b"\talive ") for line in lines[:-1])


def attempt_lines(seen: list[Fact], keys: list[str]) -> list[dict[str, object]]:
    """
    Write each buyer's first try as a line of the record, in the order of `keys`.

    A purchase whose answer never came is unknown from the last moment seen;
    one that was never sent has no line.
    """
    started = {fact.key: fact.at for fact in seen if fact.status is None}
    answers = {fact.key: fact for fact in seen if fact.status is not None}
    last = max((fact.at for fact in seen), default=0.0)
    lines = []
    for buyer, key in enumerate(keys):
        if key in started:
            answer = answers.get(key, Fact(key=key, at=last, status=0))
            lines.append(_line(buyer, started[key], answer))
    return lines


def _line(buyer: int, started_at: float, answer: Fact) -> dict[str, object]:
    line: dict[str, object] = {
        "buyer": buyer,
        "key": answer.key,
        "quantity": 1,
        "intended_at": started_at,
        "started_at": started_at,
        "ended_at": answer.at,
        **told(answer.status or 0, answer.body),
    }
    if answer.server_timing:
        line["server_timing"] = answer.server_timing
    return line


def _fact(fields: list[str]) -> Fact | None:
    match fields:
        case [">", key, at]:
            return Fact(key=key, at=float(at))
        case ["<", key, at, status, timing, body]:
            timing = "" if timing == NOTHING else timing
            return Fact(key=key, at=float(at), status=int(status), server_timing=timing, body=body)
    return None
