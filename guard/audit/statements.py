"""A batch of records as one statement.

One statement is its own transaction, and on SQLite one call of the driver. That matters more than the
time it takes: the driver gives up the interpreter lock in every call, and a writer thread that has to
win it back from a busy event loop may wait for milliseconds each time (``tests/bench/audit.py``).

A record may be written several times: the first version of a stream is replaced by its final one, and a
record that was spilled is replayed though it may be there. The statement sees to it that a version which
knows less never replaces one that knows more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import TypeAlias

from sqlalchemy import Connection, Dialect, Table, text
from sqlalchemy.dialects import postgresql, sqlite

from guard.audit.schema import records

Row: TypeAlias = tuple[object, ...]

KNOWS_AS_MUCH = (
    "records.outcome = 'streaming'"
    " OR records.outcome = 'interrupted' AND excluded.outcome <> 'streaming'"
    " OR excluded.outcome NOT IN ('streaming', 'interrupted')"
)
"""Whether the new version of a record may replace the old one."""


class RecordUpsert:
    """The statement, compiled by SQLAlchemy once; rows go to the driver as they are."""

    def __init__(self) -> None:
        """Begin with nothing compiled."""
        self._sql: dict[int, str] = {}

    def run(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Write rows, whose values stand in the order of the table's columns, all or none.

        Args:
            connection: In no transaction.
            rows: At least one.
        """
        if connection.dialect.name == "postgresql":
            # asyncpg sends them in one go and makes one transaction of them.
            connection.exec_driver_sql(self._for_rows(1, connection.dialect), list(rows))
        else:
            values = tuple(chain.from_iterable(rows))
            connection.exec_driver_sql(self._for_rows(len(rows), connection.dialect), values)

    def _for_rows(self, count: int, dialect: Dialect) -> str:
        sql = self._sql.get(count)
        if sql is None:
            sql = str(_upsert(dialect).compile(dialect=dialect))
            if count > 1:
                row = f"({', '.join('?' * len(records.columns))})"
                sql = sql.replace(row, ", ".join([row] * count), 1)
            self._sql[count] = sql
        return sql


def _upsert(dialect: Dialect) -> sqlite.Insert | postgresql.Insert:
    insert = insert_into(records, dialect).values(dict.fromkeys(records.columns.keys()))
    others = {name: value for name, value in insert.excluded.items() if name != "id"}
    return insert.on_conflict_do_update(index_elements=[records.c.id], set_=others, where=text(KNOWS_AS_MUCH))


def insert_into(table: Table, dialect: Dialect) -> sqlite.Insert | postgresql.Insert:
    """An insert that knows ON CONFLICT, which both databases spell alike."""
    return postgresql.insert(table) if dialect.name == "postgresql" else sqlite.insert(table)


def stamp_of(dialect: Dialect) -> Callable[[datetime], object]:
    """How the driver takes a time, as ``schema.UtcDateTime`` would give it."""
    return _text_stamp if dialect.name == "sqlite" else _utc


def _text_stamp(value: datetime) -> str:
    utc = value.astimezone(UTC)
    second = _second(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second)
    return f"{second}.{utc.microsecond:06}"


@lru_cache(4)
def _second(year: int, month: int, day: int, hour: int, minute: int, second: int) -> str:
    """Kept, for ``isoformat`` was a sixth of what writing a record to SQLite costs."""
    return f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)
