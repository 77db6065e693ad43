"""Inserts compiled once, for whoever must not keep a locked row waiting."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import cache
from typing import Any

from django.db import connection
from django.db.models import AutoField, Field

from inventory.clock import MinutesFromNow
from inventory.models import Movement, Order

Statement = tuple[str, list[Any]]
"""SQL with %s places, and their values."""


def insert(rows: Sequence[Order] | Sequence[Movement]) -> Statement:
    """
    Write down the INSERT of new rows of one model, with a statement compiled once.

    The stock row stays locked meanwhile, and the ORM takes three times as long
    to compile the same statement anew (docs/decisions/0003-prepared-inserts.md).
    An order's `expires_at` is None or MinutesFromNow.
    """
    held = any(isinstance(row, Order) and row.expires_at is not None for row in rows)
    statement, places, fields = _insert_statement(type(rows[0]), held)
    values = [_value(field, getattr(row, field.attname)) for row in rows for field in fields]
    return statement + ", ".join([places] * len(rows)), values


def _value(field: Field[Any, Any], value: Any) -> Any:
    """
    Prepare a value without asking the server what it is, which an event loop must not.

    A UUID's digits suit its columns everywhere: uuid on MariaDB, char(32) elsewhere.
    """
    if isinstance(value, MinutesFromNow):
        return value.minutes
    if isinstance(value, uuid.UUID):
        return value.hex
    return field.get_db_prep_save(value, connection)


@cache
def _insert_statement(
    model: type[Order] | type[Movement],
    held: bool,
) -> tuple[str, str, list[Field[Any, Any]]]:
    fields = [field for field in model._meta.concrete_fields if not isinstance(field, AutoField)]
    quote = connection.ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in fields)
    places = ", ".join(
        _minutes_from_now() if held and field.name == "expires_at" else "%s" for field in fields
    )
    return f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES ", f"({places})", fields  # noqa: S608  # names are the models'


def _minutes_from_now() -> str:
    """The SQL that makes a moment of the minutes given for it, by the database's clock."""
    compiler = Order.objects.all().query.get_compiler(connection=connection)
    sql: str = compiler.compile(MinutesFromNow(0))[0]
    return sql
