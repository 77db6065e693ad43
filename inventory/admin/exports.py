"""The ledger as a file: streamed in chunks by key, in little memory however long it is."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from typing import Any

from django.db.models import QuerySet
from django.http import StreamingHttpResponse

from inventory.admin.pages import names_of
from inventory.models import Movement

CHUNK = 1000
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What makes a spreadsheet reckon rather than show."""
BYTE_ORDER_MARK = "\ufeff"
"""Without it spreadsheets do not read UTF-8."""
COLUMNS = (
    "version",
    "created_at",
    "kind",
    "delta",
    "available_after",
    "reason",
    "actor",
    "actor_name",
    "order",
)

Row = dict[str, Any]


def as_csv(rows: QuerySet[Movement], *, name: str) -> StreamingHttpResponse:
    """Answer with CSV; text that would be a formula gets an apostrophe, numbers stay."""
    writer = csv.writer(_Line())

    def lines() -> Iterator[str]:
        yield BYTE_ORDER_MARK + writer.writerow(COLUMNS)
        for row in _rows(rows):
            yield writer.writerow([_harmless(value) for value in row.values()])

    return _file(lines(), f"{name}.csv", "text/csv; charset=utf-8")


def as_json(rows: QuerySet[Movement], *, name: str) -> StreamingHttpResponse:
    """Answer with a JSON array."""

    def lines() -> Iterator[str]:
        before = "["
        for row in _rows(rows):
            yield f"{before}\n{json.dumps(row, ensure_ascii=False)}"
            before = ","
        yield "[]\n" if before == "[" else "\n]\n"

    return _file(lines(), f"{name}.json", "application/json")


FORMS: dict[str, Callable[..., StreamingHttpResponse]] = {"csv": as_csv, "json": as_json}


class _Line:
    """Gives back what it is to write, for csv.writer to return."""

    def write(self, text: str) -> str:
        return text


def _rows(rows: QuerySet[Movement]) -> Iterator[Row]:
    version = -1
    while True:
        chunk = list(rows.filter(version__gt=version).order_by("version")[:CHUNK])
        names = names_of(movement.actor for movement in chunk)
        for movement in chunk:
            yield _row(movement, names)
        if len(chunk) < CHUNK:
            return
        version = chunk[-1].version


def _row(movement: Movement, names: dict[str, str]) -> Row:
    values = (
        movement.version,
        movement.created_at.isoformat(),
        movement.kind,
        movement.delta,
        movement.available_after,
        movement.reason,
        movement.actor,
        names.get(movement.actor, ""),
        str(movement.order_id or ""),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _harmless(value: int | str) -> int | str:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _file(lines: Iterator[str], name: str, content_type: str) -> StreamingHttpResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingHttpResponse(lines, content_type=content_type, headers=headers)
