"""The spill file in use: records go to it at once, and from it to the database when that is back."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import structlog

from guard.audit.codec import record_line
from guard.audit.database import Unstorable
from guard.audit.record import Record
from guard.audit.spill import Chunk, Spill
from guard.audit.timely import TimelyStore
from guard.errors import AuditError

T = TypeVar("T")

CHUNK = 64
"""Records replayed in one transaction."""
CHUNK_FACTOR = 10.0
"""Deadlines that a chunk may take: nobody waits for it."""
FIRST_RETRY = 0.5
LAST_RETRY = 15.0
"""Seconds between two tries to reach a database that is away; doubled from the first to the last."""


class Overflow:
    """Spills in one thread of its own and replays in one task."""

    def __init__(self, path: Path, max_bytes: int, timely: TimelyStore) -> None:
        """Set up; ``open`` begins.

        Args:
            path: The spill file.
            max_bytes: Its size at most.
            timely: Where the records go in the end.
        """
        self._path = path
        self._max_bytes = max_bytes
        self._timely = timely
        self._spill: Spill | None = None
        self._disk = ThreadPoolExecutor(1, "audit-spill")
        self._work = asyncio.Event()
        """There may be something to replay, or the database is away."""
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("guard.audit")
        self.spilled = 0
        self.replayed = 0
        self.rejected = 0

    @property
    def size(self) -> int:
        """Bytes in the spill files."""
        return self._spill.size if self._spill else 0

    @property
    def backlog(self) -> int:
        """Records in the spill files."""
        return self._spill.records if self._spill else 0

    async def open(self) -> None:
        """Take the files and begin to replay.

        Raises:
            AuditError: They cannot be written.
        """
        try:
            self._spill = await self._on_disk(lambda: Spill(self._path, self._max_bytes))
        except AuditError:
            self._disk.shutdown()
            raise
        self._work.set()
        self._task = asyncio.create_task(self._replay(self._spill), name="audit-replay")

    async def append(self, records: Sequence[Record]) -> int:
        """Make the first records that fit durable; how many did.

        Raises:
            AuditError: The disk does not take them.
        """
        spill = self._opened()
        fitted = await self._on_disk(lambda: spill.append(records))
        self.spilled += fitted
        self._work.set()
        return fitted

    async def reject(self, records: Sequence[Record]) -> None:
        """Keep records that the database will never take in a file for a person to look at.

        Raises:
            AuditError: The disk does not take them.
        """
        await self._reject([record_line(record) for record in records])

    def wake(self) -> None:
        """Try the database again, soon and until it is back."""
        self._work.set()

    async def close(self) -> None:
        """Stop; what is not replayed stays for the next start."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._spill:
            await self._on_disk(self._spill.close)
            self._spill = None
            self._disk.shutdown()

    async def _replay(self, spill: Spill) -> None:
        delay = FIRST_RETRY
        while True:
            await self._work.wait()
            if not self._timely.available:
                await asyncio.sleep(delay)
            self._work.clear()
            try:
                if await self._replay_some(spill):
                    self._work.set()
                self._timely.found()
                delay = FIRST_RETRY
            except Exception as error:  # a bug must not end the replay for good
                if not isinstance(error, AuditError):
                    # Without the values of variables, which hold what clients said.
                    self._log.error("bug in the audit replay", traceback=traceback.format_exc())
                self._timely.lost(error)
                self._work.set()
                delay = min(2 * delay, LAST_RETRY)

    async def _replay_some(self, spill: Spill) -> bool:
        """Bring the oldest records to the database; False where there were none."""
        timely = self._timely
        await timely.prepare()
        chunk = await self._on_disk(lambda: spill.chunk(CHUNK))
        if chunk is None:
            if not timely.available:
                await timely.run(timely.store.check())
            return False
        await self._bring(chunk)
        await self._on_disk(lambda: spill.done(chunk))
        return True

    async def _bring(self, chunk: Chunk) -> None:
        timely = self._timely
        refused = list(chunk.unreadable)
        try:
            await timely.run(timely.store.write(chunk.records), factor=CHUNK_FACTOR)
        except Unstorable:
            each = timely.store.write_each(chunk.records)
            refused += map(record_line, await timely.run(each, factor=CHUNK_FACTOR))
        if refused:
            await self._reject(refused)
        self.replayed += len(chunk.records) + len(chunk.unreadable) - len(refused)

    async def _reject(self, lines: Sequence[bytes]) -> None:
        spill = self._opened()
        await self._on_disk(lambda: spill.reject(lines))
        self.rejected += len(lines)
        self._log.error("audit records rejected by the database", count=len(lines))

    async def _on_disk(self, work: Callable[[], T]) -> T:
        """Run blocking file work in the spill thread, one piece after the other."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._disk, work)
        except OSError as error:
            raise AuditError(f"{self._path}: {error.strerror}") from error

    def _opened(self) -> Spill:
        if self._spill is None:
            raise AuditError(f"{self._path}: the spill file is not open")
        return self._spill
