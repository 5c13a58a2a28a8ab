"""How work reaches the database: a function of a SQLAlchemy connection, run in one transaction.

The same synchronous function serves both databases. On PostgreSQL it runs over asyncpg on the event
loop. On SQLite it runs in one dedicated writer thread over the standard driver, and not through
aiosqlite: that layer crosses threads for every single statement. In groups of 16 to 32 records it cost
the event loop 50 us a record against 5, and 85 us of processor time in all against 40; beside a busy event
loop it wrote half as many (``tests/bench/audit.py``).

FULL against NORMAL, which a power cut may cost its last records: 0.15 ms more for a lone record, 5 us of
processor time more in a group, where the disk syncs in 0.15 ms.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import asyncpg  # type: ignore[import-untyped] # ships no types
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import QueuePool

from guard.errors import AuditError

T = TypeVar("T")
Work = Callable[[Connection], T]

BUSY_SECONDS = 5.0
"""How long SQLite waits for a lock that another process holds."""
COMMAND_SECONDS = 30.0
"""How long PostgreSQL may take for one statement."""
CONNECT_SECONDS = 10.0
CACHED_STATEMENTS = 256
_DATA_STATES = {"22", "23"}
"""PostgreSQL's classes of errors that lie in the data."""
_ONE_STATEMENT = "guard_one_statement"
"""Execution option: no BEGIN, for the statement is its own transaction."""
READERS = 2
"""Threads that read SQLite, apart from the writer."""
CONNECTIONS = 5
"""Connections to PostgreSQL: the writer, the replay, and readers."""


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


class SqliteDatabase:
    """A file in WAL mode: one writer thread, and readers that never wait for it."""

    def __init__(self, path: Path, *, synchronous: str = "FULL", create: bool = True) -> None:
        """Create the file, for its owner alone, unless it is there.

        Raises:
            AuditError: The file or its folder cannot be made, or must exist and does not.
        """
        self.location = str(path)
        self._path = path.absolute()
        self._synchronous = synchronous
        self._read_only = not create
        if create:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            except OSError as error:
                raise AuditError(f"{path}: cannot be opened: {error.strerror}") from error
        elif not self._path.is_file():
            raise AuditError(f"{path}: no such database")
        self._writing = self._engine("IMMEDIATE", connections=1)
        self._writing_one = self._writing.execution_options(**{_ONE_STATEMENT: True})
        self._reading = self._engine("DEFERRED", connections=READERS)
        self._writer = ThreadPoolExecutor(1, "audit-writer")
        self._readers = ThreadPoolExecutor(READERS, "audit-reader")
        self._closed = False

    async def write(self, work: Work[T]) -> T:
        """Run work in the writer thread, in one transaction."""
        return await self._in_thread(self._writer, self._writing, work)

    async def write_statement(self, work: Work[T]) -> T:
        """Run work in the writer thread; the statement is a transaction of its own."""
        return await self._in_thread(self._writer, self._writing_one, work)

    async def read(self, work: Work[T]) -> T:
        """Run work in a reader thread."""
        return await self._in_thread(self._readers, self._reading, work)

    async def close(self) -> None:
        """Wait for running work and close; closing again does nothing."""
        if self._closed:
            return
        self._closed = True
        for threads, engine in ((self._readers, self._reading), (self._writer, self._writing)):
            await asyncio.get_running_loop().run_in_executor(threads, engine.dispose)
            threads.shutdown()

    async def _in_thread(self, threads: ThreadPoolExecutor, engine: Engine, work: Work[T]) -> T:
        if self._closed:
            raise AuditError(f"{self.location}: the database is closed")
        return await asyncio.get_running_loop().run_in_executor(threads, self._run, engine, work)

    def _run(self, engine: Engine, work: Work[T]) -> T:
        with _converted(self.location), engine.begin() as connection:
            return work(connection)

    def _engine(self, begin: str, connections: int) -> Engine:
        engine = create_engine(
            "sqlite://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=connections,
            max_overflow=0,
            hide_parameters=True,
        )

        # The driver's own transaction control is off (isolation_level=None), so that a writer takes its
        # lock at once and cannot fail half way through.
        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            if not connection.get_execution_options().get(_ONE_STATEMENT):
                connection.exec_driver_sql(f"BEGIN {begin}")

        return engine

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=CACHED_STATEMENTS,
        )
        if self._read_only:
            connection.execute("PRAGMA query_only=ON")
        else:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
        return connection


class PostgresDatabase:
    """A server, over a small pool of connections."""

    def __init__(self, url: str) -> None:
        """Set up the pool; what the URL leaves out comes from libpq's environment variables."""
        self.location = safe_url(url)

        async def connect() -> asyncpg.Connection[Any]:
            try:
                return await asyncpg.connect(
                    url,
                    timeout=CONNECT_SECONDS,
                    command_timeout=COMMAND_SECONDS,
                    server_settings={"application_name": "guard"},
                )
            except (asyncpg.ClientConfigurationError, ValueError) as error:
                # asyncpg quotes the URL it cannot use, password included.
                reason = f"the URL cannot be used ({type(error).__name__})"
                raise AuditError(f"{self.location}: {reason}") from None

        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=connect,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=COMMAND_SECONDS,
            hide_parameters=True,
        )
        self._committing = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    async def write(self, work: Work[T]) -> T:
        """Run work in one transaction."""
        with _converted(self.location):
            async with self._engine.begin() as connection:
                return await connection.run_sync(work)

    async def write_statement(self, work: Work[T]) -> T:
        """Run work without BEGIN and COMMIT, which saves two round trips."""
        with _converted(self.location):
            async with self._committing.connect() as connection:
                return await connection.run_sync(work)

    async def read(self, work: Work[T]) -> T:
        """Run work in one transaction."""
        return await self.write(work)

    async def close(self) -> None:
        """Close the pool."""
        await self._engine.dispose()


def safe_url(url: str) -> str:
    """The URL without user, password and parameters.

    >>> safe_url("postgresql://guard:secret@db:5432/audit?sslmode=require")
    'postgresql://db:5432/audit'
    """
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{parts.path}"
    except ValueError:
        return "postgresql://…"


@contextmanager
def _converted(location: str) -> Iterator[None]:
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
