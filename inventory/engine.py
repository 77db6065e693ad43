"""
The event loop's own way into the database: SQLAlchemy Core over asyncmy, MariaDB or MySQL only.

One bounded pool per event loop. What goes wrong is raised as Django's database errors
with the driver's code, so that one table of codes says what each means.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import django.db
import sqlalchemy.exc
from asyncmy.constants.CLIENT import FOUND_ROWS
from django.conf import settings
from django.db import connection
from sqlalchemy import URL, AdaptedConnection, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from inventory.errors import StockBusy

POOL_WAIT_S = 3.0
"""How long a sale waits for one of the pool's connections before it is busy."""
CHECK_AFTER_IDLE_S = 5.0
"""A connection that rested longer is asked first whether the server still knows it."""
SERVER_GONE = 2006

_engines: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncEngine] = WeakKeyDictionary()


class Transaction:
    """A transaction that is open: run statements in it."""

    def __init__(self, bound: AsyncConnection) -> None:
        self._bound = bound

    async def write(self, sql: str, values: Sequence[Any]) -> int:
        """Run a statement; the rows it wrote."""
        result = await self._bound.exec_driver_sql(sql, tuple(values))
        return result.rowcount

    async def read(self, sql: str, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """Run a query; its rows."""
        result = await self._bound.exec_driver_sql(sql, tuple(values))
        return result.fetchall()


@cache
def runs_here() -> bool:
    """Whether this database has an asynchronous driver."""
    return connection.vendor == "mysql"


@asynccontextmanager
async def transaction() -> AsyncIterator[Transaction]:
    """
    Open a transaction on a connection of the pool; commit on leaving, roll back on an error.

    Raises StockBusy when no connection is free in time, and django.db errors.
    """
    try:
        async with _engine().connect() as bound:
            yield Transaction(bound)
            await bound.commit()
    except sqlalchemy.exc.TimeoutError as error:
        raise StockBusy from error
    except sqlalchemy.exc.DBAPIError as error:
        raise _as_django(error) from error.orig


async def close() -> None:
    """Close this event loop's connections; the next transaction opens new ones."""
    engine = _engines.pop(asyncio.get_running_loop(), None)
    if engine is not None:
        await engine.dispose()


def _engine() -> AsyncEngine:
    loop = asyncio.get_running_loop()
    engine = _engines.get(loop)
    if engine is None:
        engine = _engines[loop] = create_async_engine(
            _url(),
            connect_args=_connect_arguments(),
            isolation_level=_isolation_level(),
            pool_size=settings.ASYNC_CONNECTIONS,
            max_overflow=0,
            pool_timeout=POOL_WAIT_S,
            pool_reset_on_return=None,
        )
        event.listen(engine.sync_engine, "checkout", _check_after_idling)
        event.listen(engine.sync_engine, "checkin", _note_the_time)
    return engine


def _url() -> URL:
    database = settings.DATABASES["default"]
    return URL.create(
        "mysql+asyncmy",
        username=database.get("USER") or None,
        password=database.get("PASSWORD") or None,
        host=None if _is_socket(database) else database.get("HOST") or "localhost",
        port=None if _is_socket(database) else int(database.get("PORT") or 3306),
        database=database["NAME"],
    )


def _connect_arguments() -> dict[str, Any]:
    """Say to asyncmy what Django's settings say to mysqlclient."""
    database = settings.DATABASES["default"]
    options = database["OPTIONS"]
    arguments = {
        "charset": options["charset"],
        "connect_timeout": options["connect_timeout"],
        "read_timeout": options["read_timeout"],
        "init_command": options["init_command"],
        "client_flag": FOUND_ROWS,
    }
    if _is_socket(database):
        arguments["unix_socket"] = database["HOST"]
    return arguments


def _isolation_level() -> Any:
    level: str = settings.DATABASES["default"]["OPTIONS"]["isolation_level"]
    return level.upper()


def _is_socket(database: dict[str, Any]) -> bool:
    return str(database.get("HOST")).startswith("/")


def _note_the_time(adapted: AdaptedConnection, entry: ConnectionPoolEntry) -> None:
    entry.info["rested_since"] = asyncio.get_running_loop().time()


def _check_after_idling(adapted: Any, entry: ConnectionPoolEntry, proxy: object) -> None:
    """Have the pool replace a connection that the server closed meanwhile: it costs no sale."""
    now = asyncio.get_running_loop().time()
    if now - entry.info.get("rested_since", now) < CHECK_AFTER_IDLE_S:
        return
    try:
        adapted.ping()
    except Exception as error:
        raise sqlalchemy.exc.DisconnectionError from error


def _as_django(error: sqlalchemy.exc.DBAPIError) -> django.db.Error:
    kind: type[django.db.Error] = getattr(django.db, type(error).__name__, django.db.DatabaseError)
    code, *rest = getattr(error.orig, "args", None) or (SERVER_GONE,)
    if type(code) is not int and error.connection_invalidated:
        code = SERVER_GONE
    return kind(code, *rest)
