"""Which database a path or URL means."""

from __future__ import annotations

from pathlib import Path

from guard.audit.database import Database
from guard.audit.postgresql import PostgresDatabase, url_without_password
from guard.audit.sqlite import SqliteDatabase
from guard.errors import AuditError

_POSTGRESQL = {"postgresql", "postgres", "postgresql+asyncpg"}


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
    scheme = _scheme(text)
    if scheme in _POSTGRESQL:
        return PostgresDatabase(text.replace(f"{scheme}://", "postgresql://", 1))
    if scheme == "sqlite":
        text = text.removeprefix("sqlite://").removeprefix("/")
    elif scheme:
        raise AuditError(f"audit database {scheme}://…: use a path or postgresql://…")
    if not text or text == ":memory:":
        raise AuditError("the audit database needs a file")
    return SqliteDatabase(Path(text), synchronous=synchronous, create=create)


def without_password(database: str) -> str:
    """The path or URL as it can be shown, and typed again where PGPASSWORD holds the password."""
    return url_without_password(database) if _scheme(database) in _POSTGRESQL else database


def _scheme(database: str) -> str:
    """What stands before ``://``; nothing for a path."""
    return database.partition("://")[0] if "://" in database else ""
