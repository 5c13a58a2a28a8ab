"""Batches as few statements: SQLAlchemy compiles each once, and rows go to the driver as they are.

Per record this halves the cost of ``connection.execute(insert, [dict, …])``, which builds a dictionary
and runs each value through a type's processor. On SQLite several rows share a statement besides: the
driver lets go of the interpreter lock around every step, and a writer thread that must win it back from
a busy event loop waits up to five milliseconds each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from sqlalchemy import Connection, Dialect, Insert, Table
from sqlalchemy.dialects import postgresql, sqlite

Row: TypeAlias = tuple[object, ...]

ROWS_PER_STATEMENT = 16
"""On SQLite; times the columns of ``records`` it stays under 999, the least limit of a build."""


class Statements:
    """The statements of one database, compiled as they are first needed."""

    def __init__(self) -> None:
        """Begin with none."""
        self._compiled: dict[tuple[str, bool, int], str] = {}

    def insert(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """Add rows, whose values stand in the order of the table's columns."""
        self._run(connection, table, rows, replace=False)

    def upsert(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """Add rows, or replace those that are there under the same key."""
        self._run(connection, table, rows, replace=True)

    def _run(self, connection: Connection, table: Table, rows: Sequence[Row], *, replace: bool) -> None:
        if not rows:
            return
        if connection.dialect.name == "postgresql":  # asyncpg sends all rows in one go
            connection.exec_driver_sql(self._sql(connection, table, replace, 1), list(rows))
            return
        start = 0
        while start < len(rows):
            # Powers of two, so that a handful of statements serves batches of every size.
            size = min(ROWS_PER_STATEMENT, 1 << ((len(rows) - start).bit_length() - 1))
            values = tuple(value for row in rows[start : start + size] for value in row)
            connection.exec_driver_sql(self._sql(connection, table, replace, size), values)
            start += size

    def _sql(self, connection: Connection, table: Table, replace: bool, size: int) -> str:
        key = (table.name, replace, size)
        sql = self._compiled.get(key)
        if sql is None:
            statement = _insert(table, connection.dialect, replace, size)
            sql = self._compiled[key] = str(statement.compile(dialect=connection.dialect))
        return sql


def _insert(table: Table, dialect: Dialect, replace: bool, size: int) -> Insert:
    row = dict.fromkeys(table.columns.keys())
    insert = insert_into(table, dialect).values([row] * size)
    if not replace:
        return insert
    keys = table.primary_key.columns
    others = {name: value for name, value in insert.excluded.items() if name not in keys}
    return insert.on_conflict_do_update(index_elements=list(keys), set_=others)


def insert_into(table: Table, dialect: Dialect) -> sqlite.Insert | postgresql.Insert:
    """An insert that knows ON CONFLICT, which both databases spell alike."""
    return postgresql.insert(table) if dialect.name == "postgresql" else sqlite.insert(table)


def stamp_of(dialect: Dialect) -> Callable[[datetime], object]:
    """How the database takes a time, as ``schema.UtcDateTime`` would give it."""
    return _text_stamp if dialect.name == "sqlite" else _utc


def _text_stamp(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(" ", "microseconds")[:26]


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)
