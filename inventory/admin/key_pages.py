"""Pages that begin where the last one ended: as quick on page 10,000 as on the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar, cast

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import Field, Model, Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _

ROWS_ON_A_PAGE = 50

M = TypeVar("M", bound=Model)
Key = list[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPage(Generic[M]):
    """Some rows, and the keys before which and after which the neighbours begin."""

    rows: list[M]
    newer: str | None
    older: str | None


def in_index_order(
    rows: QuerySet[M], within: Mapping[str, Any], order: tuple[str, ...]
) -> QuerySet[M]:
    """
    Select the rows that are `within` these values, as an index over them and `order` has them.

    For an equality MariaDB may read that index from its very end, and leave out what comes
    before the page. A range of one value makes it begin at the page.
    """
    if connection.vendor != "mysql":
        return rows.filter(**within).order_by(*order)
    sign = "-" if order[0].startswith("-") else ""
    ranges = {f"{name}__{end}": value for name, value in within.items() for end in ("gte", "lte")}
    return rows.filter(**ranges).order_by(*(f"{sign}{name}" for name in within), *order)


def key_page(
    request: HttpRequest,
    rows: QuerySet[M],
    *order: str,
    within: Mapping[str, Any] | None = None,
    size: int = ROWS_ON_A_PAGE,
) -> KeyPage[M]:
    """
    Read the page that the address asks for (`older_than`, `newer_than`: a row's key).

    `order` names one or two columns, together unique, that an index serves after the columns
    of `within`; no rows are skipped or counted. A key that is none leads to the first page,
    with a message.
    """
    within = within or {}
    try:
        backwards, key = _asked(rows.model, order, request.GET)
    except (ValueError, OverflowError, ValidationError):
        messages.warning(request, _("There is no such page. This is the first one."))
        backwards, key = False, None
    if backwards and key is not None:
        turned = tuple(_turned(column) for column in order)
        newer = in_index_order(rows.filter(_after(turned, key)), within, turned)
        found = list(newer[: size + 1])
        if len(found) > size:
            shown = found[size - 1 :: -1]
            return KeyPage(rows=shown, newer=_key(shown[0], order), older=_key(shown[-1], order))
        key = None
    if key is not None:
        rows = rows.filter(_after(order, key))
    found = list(in_index_order(rows, within, order)[: size + 1])
    shown = found[:size]
    return KeyPage(
        rows=shown,
        newer=_key(shown[0], order) if shown and key is not None else None,
        older=_key(shown[-1], order) if len(found) > size else None,
    )


def _asked(
    model: type[Model], order: tuple[str, ...], asked: Mapping[str, str]
) -> tuple[bool, Key | None]:
    backwards = "newer_than" in asked
    text = asked.get("newer_than" if backwards else "older_than")
    if text is None:
        return False, None
    parts = text.rsplit(",", len(order) - 1)
    if len(parts) != len(order):
        raise ValueError(text)
    return backwards, [_value(model, *pair) for pair in zip(order, parts, strict=True)]


def _value(model: type[Model], column: str, text: str) -> Any:
    value = _field(model, column).to_python(text)
    if value is None:
        raise ValueError(text)
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def _key(row: Model, order: tuple[str, ...]) -> str:
    return ",".join(_field(row, column).value_to_string(row) for column in order)


def _field(model: Model | type[Model], column: str) -> Field[Any, Any]:
    return cast("Field[Any, Any]", model._meta.get_field(column.lstrip("-")))


def _turned(column: str) -> str:
    return column.removeprefix("-") if column.startswith("-") else f"-{column}"


def _after(order: tuple[str, ...], key: Key) -> Q:
    """The rows after a key; the first column's range is said apart, for the index."""
    first, *rest = order
    beyond = _beyond(first, key[0])
    if not rest:
        return beyond
    same = Q(**{first.lstrip("-"): key[0]})
    return (beyond | same) & (beyond | _beyond(rest[0], key[1]))


def _beyond(column: str, value: Any) -> Q:
    name = column.lstrip("-")
    return Q(**{f"{name}__lt" if column.startswith("-") else f"{name}__gt": value})
