"""Which database a path or URL means."""

from __future__ import annotations

from pathlib import Path

from guard.audit.database import Database
from guard.audit.postgresql import PostgresDatabase
from guard.audit.sqlite import SqliteDatabase
from guard.errors import AuditError


def open_database(database: str | Path, *, synchronous: str = "FULL", create: bool = True) -> Database:
    """The database at a path (SQLite) or a ``postgresql://`` URL; nothing is contacted yet.

    Args:
        database: Path or URL.
        synchronous: SQLite's level; FULL survives a power cut, NORMAL a crash of the process.
        create: Whether a missing SQLite file is created; without it the file is only read.

    Raises:
        AuditError: It cannot be used.
    """
    text = str(database)
    scheme = text.partition("://")[0] if "://" in text else ""
    if scheme in {"postgresql", "postgres", "postgresql+asyncpg"}:
        return PostgresDatabase(text.replace(f"{scheme}://", "postgresql://", 1))
    if scheme == "sqlite":
        text = text.removeprefix("sqlite://").removeprefix("/")
    elif scheme:
        raise AuditError(f"audit database {scheme}://…: use a path or postgresql://…")
    if not text or text == ":memory:":
        raise AuditError("the audit database needs a file")
    return SqliteDatabase(Path(text), synchronous=synchronous, create=create)
