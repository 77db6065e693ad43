"""
Which database errors mean what: the one table.

The meaning of each code, and what the server has already rolled back by then, is
in the MariaDB and MySQL error references and SQLite's result codes.
"""

from __future__ import annotations

from enum import Enum, auto

import django.db


class Verdict(Enum):
    """What a database error means for the sale that met it."""

    ROLLED_BACK = auto()
    """The server undid the transaction: run it again."""
    WAITED_TOO_LONG = auto()
    """A lock or a connection was not to be had in time: once more at most, then busy."""
    CONNECTION_LOST = auto()
    """Before the commit nothing was sold; during it nobody knows."""
    DUPLICATE = auto()
    """The key already has an order, or this is a bug."""
    GUARD_REACHED = auto()
    """The CHECK constraint behind the guard said no: sold out, and an alarm."""
    REFUSED = auto()
    """Nothing was sold, and trying again at once would not help: busy."""
    CANNOT_WRITE = auto()
    """Full or read-only: busy, and an alarm."""
    UNCLASSIFIED = auto()
    """Not in the table: a bug, raised as it is."""


MYSQL_VERDICTS = {
    1213: Verdict.ROLLED_BACK,  # deadlock
    1020: Verdict.ROLLED_BACK,  # record changed since the snapshot (MariaDB 11.6.2 on)
    1305: Verdict.ROLLED_BACK,  # SAVEPOINT gone: consequence of 1213 in a nested block
    1205: Verdict.WAITED_TOO_LONG,  # lock wait timeout; also NOWAIT on MariaDB
    3572: Verdict.WAITED_TOO_LONG,  # NOWAIT on MySQL
    1040: Verdict.WAITED_TOO_LONG,  # too many connections
    1203: Verdict.WAITED_TOO_LONG,  # too many connections of this user
    1226: Verdict.WAITED_TOO_LONG,  # this user's resource limit
    2002: Verdict.WAITED_TOO_LONG,  # cannot connect (socket)
    2003: Verdict.WAITED_TOO_LONG,  # cannot connect (TCP)
    2005: Verdict.WAITED_TOO_LONG,  # the server's name does not resolve
    2006: Verdict.CONNECTION_LOST,  # server has gone away
    2013: Verdict.CONNECTION_LOST,  # lost connection during query
    1927: Verdict.CONNECTION_LOST,  # connection was killed (MariaDB)
    1053: Verdict.CONNECTION_LOST,  # server is shutting down
    0: Verdict.CONNECTION_LOST,  # the driver's word for a connection already closed
    1062: Verdict.DUPLICATE,
    4025: Verdict.GUARD_REACHED,  # CHECK failed on MariaDB
    3819: Verdict.GUARD_REACHED,  # CHECK failed on MySQL
    1690: Verdict.GUARD_REACHED,  # unsigned underflow
    1317: Verdict.REFUSED,  # query killed
    1969: Verdict.REFUSED,  # max_statement_time (MariaDB)
    3024: Verdict.REFUSED,  # max_execution_time (MySQL)
    1206: Verdict.CANNOT_WRITE,  # lock table full
    1114: Verdict.CANNOT_WRITE,  # table full
    1021: Verdict.CANNOT_WRITE,  # disk full
    1290: Verdict.CANNOT_WRITE,  # --read-only
    1836: Verdict.CANNOT_WRITE,  # read-only mode
    1792: Verdict.CANNOT_WRITE,  # read-only transaction
}
SQLITE_VERDICTS = {
    5: Verdict.WAITED_TOO_LONG,  # SQLITE_BUSY
    517: Verdict.ROLLED_BACK,  # SQLITE_BUSY_SNAPSHOT
    6: Verdict.WAITED_TOO_LONG,  # SQLITE_LOCKED
    14: Verdict.WAITED_TOO_LONG,  # SQLITE_CANTOPEN
    2067: Verdict.DUPLICATE,  # SQLITE_CONSTRAINT_UNIQUE
    1555: Verdict.DUPLICATE,  # SQLITE_CONSTRAINT_PRIMARYKEY
    275: Verdict.GUARD_REACHED,  # SQLITE_CONSTRAINT_CHECK
    9: Verdict.REFUSED,  # SQLITE_INTERRUPT
    13: Verdict.CANNOT_WRITE,  # SQLITE_FULL
    8: Verdict.CANNOT_WRITE,  # SQLITE_READONLY
    10: Verdict.CANNOT_WRITE,  # SQLITE_IOERR
}
OUTAGES = {
    Verdict.ROLLED_BACK,
    Verdict.WAITED_TOO_LONG,
    Verdict.CONNECTION_LOST,
    Verdict.REFUSED,
    Verdict.CANNOT_WRITE,
}
"""What the database's state explains; anything else is a bug."""


def verdict_on(error: django.db.Error) -> Verdict:
    """Classify a database error by its driver's code."""
    cause = error.__cause__ or error
    sqlite_code = getattr(cause, "sqlite_errorcode", None)
    if sqlite_code is not None:
        family = SQLITE_VERDICTS.get(sqlite_code & 0xFF, Verdict.UNCLASSIFIED)
        return SQLITE_VERDICTS.get(sqlite_code, family)
    code = cause.args[0] if cause.args else None
    return (
        MYSQL_VERDICTS.get(code, Verdict.UNCLASSIFIED)
        if type(code) is int
        else Verdict.UNCLASSIFIED
    )
