"""The ledger as a file: streamed in chunks by key, in little memory however long it is."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from typing import Any

from django.db.models import QuerySet
from django.http import StreamingHttpResponse

from inventory.admin.key_pages import in_index_order
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
READ = (*COLUMNS[:-2], "order_id")

Row = dict[str, Any]


def as_csv(rows: QuerySet[Movement], within: dict[str, Any], *, name: str) -> StreamingHttpResponse:
    """Answer with CSV; text that would be a formula gets an apostrophe, numbers stay."""
    writer = csv.writer(_Line())

    def parts() -> Iterator[str]:
        yield BYTE_ORDER_MARK + writer.writerow(COLUMNS)
        for chunk in _chunks(rows, within):
            yield "".join(writer.writerow(map(_harmless, row.values())) for row in chunk)

    return _file(parts(), f"{name}.csv", "text/csv; charset=utf-8")


def as_json(
    rows: QuerySet[Movement], within: dict[str, Any], *, name: str
) -> StreamingHttpResponse:
    """Answer with a JSON array."""

    def parts() -> Iterator[str]:
        before = "[\n"
        for chunk in _chunks(rows, within):
            yield before + ",\n".join(json.dumps(row, ensure_ascii=False) for row in chunk)
            before = ",\n"
        yield "[]\n" if before == "[\n" else "\n]\n"

    return _file(parts(), f"{name}.json", "application/json")


FORMS: dict[str, Callable[..., StreamingHttpResponse]] = {"csv": as_csv, "json": as_json}


class _Line:
    """Gives back what it is to write, for csv.writer to return."""

    def write(self, text: str) -> str:
        return text


def _chunks(rows: QuerySet[Movement], within: dict[str, Any]) -> Iterator[list[Row]]:
    """Read on from the last version each time; a chunk is never empty."""
    version = -1
    while True:
        some = in_index_order(rows.filter(version__gt=version), within, ("version",))
        chunk = list(some.values_list(*READ)[:CHUNK])
        if not chunk:
            return
        names = names_of({line[READ.index("actor")] for line in chunk})
        yield [_row(line, names) for line in chunk]
        version = chunk[-1][0]


def _row(line: tuple[Any, ...], names: dict[str, str]) -> Row:
    version, created_at, kind, delta, after, reason, actor, order = line
    values = (version, created_at.isoformat(), kind, delta, after, reason, actor)
    return dict(zip(COLUMNS, (*values, names.get(actor, ""), str(order or "")), strict=True))


def _harmless(value: int | str) -> int | str:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _file(lines: Iterator[str], name: str, content_type: str) -> StreamingHttpResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingHttpResponse(lines, content_type=content_type, headers=headers)
