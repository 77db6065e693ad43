"""The database's clock: the one clock that all web processes and commands share."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import DateTimeField, Func
from django.db.models.sql.compiler import SQLCompiler

SQLITE_NOW = "STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f', 'NOW'"


class DatabaseNow(Func):
    """
    Now, in UTC, by the database's clock, when the statement began.

    Django's own Now() is in the time zone of the database's session.
    """

    template = "UTC_TIMESTAMP(6)"
    arity = 0
    output_field = DateTimeField()

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> tuple[str, tuple[Any, ...]]:
        """Say the same as Django writes moments there, in milliseconds."""
        sql, values = self.as_sql(compiler, connection, template=SQLITE_NOW + ")", **context)
        return sql, tuple(values)


class MinutesFromNow(Func):
    """That many minutes after the database's now; never, for None."""

    template = "UTC_TIMESTAMP(6) + INTERVAL %(expressions)s MINUTE"
    arity = 1
    output_field = DateTimeField()

    def __init__(self, minutes: int | None) -> None:
        super().__init__(minutes)
        self.minutes = minutes

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> tuple[str, tuple[Any, ...]]:
        """See DatabaseNow.as_sqlite()."""
        template = SQLITE_NOW + ", %(expressions)s || ' minutes')"
        sql, values = self.as_sql(compiler, connection, template=template, **context)
        return sql, tuple(values)
