"""SQLite, in one dedicated writer thread over the standard driver.

Not through aiosqlite: that layer crosses threads for every single statement. In groups of 16 to 32 records it
cost the event loop 50 us a record against 5, and 85 us of processor time in all against 40; beside a busy
event loop it wrote half as many (``tests/bench/audit.py``).

FULL against NORMAL, which a power cut may cost its last records: 0.15 ms more for a lone record, 5 us of
processor time more in a group, where the disk syncs in 0.15 ms.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import QueuePool

from guard.audit.database import T, Work, converted
from guard.errors import AuditError

BUSY_SECONDS = 5.0
"""How long SQLite waits for a lock that another process holds."""
_WAL_PAUSE = 0.01
"""Seconds between two tries to switch a new file to WAL."""
CACHED_STATEMENTS = 256
READERS = 2
"""Threads that read, apart from the writer."""
_ONE_STATEMENT = "guard_one_statement"
"""Execution option: no BEGIN, for the statement is its own transaction."""


class SqliteDatabase:
    """A file in WAL mode: one writer thread, and readers that never wait for it."""

    def __init__(self, path: Path, *, synchronous: str = "FULL", create: bool = True) -> None:
        """Create the file, for its owner alone, unless it is there.

        Raises:
            AuditError: The file or its folder cannot be made or entered, or must exist and does not.
        """
        self.location = str(path)
        self._path = path.absolute()
        self._synchronous = synchronous
        self._read_only = not create
        try:
            if create:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            elif not self._path.is_file():
                raise AuditError(f"{path}: no such database")
        except OSError as error:
            raise AuditError(f"{path}: cannot be opened: {error.strerror}") from error
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
        with converted(self.location), engine.begin() as connection:
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
            _use_wal(connection)
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
        return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Bring the file into WAL mode, where it stays.

    Of processes that do so at once on a new file, SQLite lets one and fails the others without waiting for
    the busy timeout, since they could wait for each other.
    """
    last = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > last:
                raise
        time.sleep(_WAL_PAUSE)
