"""How work reaches the database: a function of a SQLAlchemy connection, run in one transaction.

The same synchronous function serves both databases (``sqlite.py``, ``postgresql.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

import asyncpg  # type: ignore[import-untyped] # ships no types
from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from guard.errors import AuditError

T = TypeVar("T")
Work = Callable[[Connection], T]

_DATA_STATES = {"22", "23"}
"""PostgreSQL's classes of errors that lie in the data."""


class Unstorable(AuditError):
    """The database is there, and will never take one of these records as it is."""


class Database(Protocol):
    """Runs work; every error is an AuditError without SQL, parameters or secrets in its text."""

    location: str
    """The path, or the URL without its secrets."""

    async def write(self, work: Work[T]) -> T:
        """Run work in a transaction that may write."""

    async def write_statement(self, work: Work[T]) -> T:
        """Run work that is a single statement, which makes its own transaction."""

    async def read(self, work: Work[T]) -> T:
        """Run work that only reads."""

    async def close(self) -> None:
        """Give up all connections."""


@contextmanager
def converted(location: str) -> Iterator[None]:
    """Turn whatever a driver raises into an AuditError that holds the driver's reason alone."""
    try:
        yield
    except (IntegrityError, DataError) as error:
        raise Unstorable(f"{location}: {_reason(error.orig or error)}") from error
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None) or ""
        kind = Unstorable if state[:2] in _DATA_STATES else AuditError
        raise kind(f"{location}: {_reason(error.orig or error)}") from error
    except (UnicodeError, OverflowError) as error:
        raise Unstorable(f"{location}: {_reason(error)}") from error
    except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise AuditError(f"{location}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text.partition(">: ")[2] or text or type(error).__name__
