"""Every record durable before its answer ends, whatever the database does.

Records are written in groups: one task takes all that wait and writes them in one transaction, while
the next group forms. When the database fails, or is slower than a deadline, records go to a spill file
on the local disk, which counts as durable, and from there to the database once it is back.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import structlog

from guard.audit.database import Unstorable
from guard.audit.losses import Losses
from guard.audit.record import Record
from guard.audit.replay import Overflow
from guard.audit.store import AuditStore
from guard.audit.timely import TimelyStore
from guard.errors import AuditError

BATCH = 64
"""Records in one transaction at most; more would save nothing (``tests/bench/audit.py``)."""

_Waiting = tuple[Record, asyncio.Future[None] | None]


class AuditWriter:
    """Takes records from any number of tasks of one event loop.

    ``durable``: a write returns when its record is on disk, and fails where that is impossible. At most
    ``max_pending`` records wait; one more is refused.

    ``background``: a write returns at once; a record for which there is no room is dropped and counted.
    """

    def __init__(
        self,
        store: AuditStore,
        *,
        mode: Literal["durable", "background"] = "durable",
        max_pending: int = 10_000,
        spill_path: Path | None = None,
        spill_bytes: int = 1 << 30,
        deadline: float = 2.0,
        on_batch: Callable[[float, int], None] | None = None,
    ) -> None:
        """Set up; ``start`` begins.

        Args:
            store: Where records go; it stays open when the writer is closed.
            mode: Whether a write waits for the disk.
            max_pending: Records in memory at most.
            spill_path: The spill file; without one, a database that is away means failed writes.
            spill_bytes: Its size at most.
            deadline: Seconds the database may take for a group before the group is spilled.
            on_batch: Called with the seconds and the size of each group that the database took.
        """
        self._timely = TimelyStore(store, deadline)
        self._overflow = Overflow(spill_path, spill_bytes, self._timely) if spill_path else None
        self._durable = mode == "durable"
        self._max_pending = max_pending
        self._on_batch = on_batch
        self._pending: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._hurry: asyncio.Future[None] | None = None
        """There while the database works on a group; done when too much piles up behind it."""
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._log = structlog.get_logger("guard.audit")
        self.written = 0
        """Records that went to the database at once."""
        self._no_room = Losses()
        self._failed = 0
        """Records that neither database nor disk took."""

    @property
    def dropped(self) -> int:
        """Records that are nowhere: no room in memory, or neither database nor disk took them."""
        return self._no_room.count + self._failed

    @property
    def pending(self) -> int:
        """Records that wait for the next group."""
        return len(self._pending)

    @property
    def spilled(self) -> int:
        """Records that went to the spill file since the start, replayed or not."""
        return self._overflow.spilled if self._overflow else 0

    @property
    def backlog(self) -> int:
        """Records in the spill files of this process now, those of dead processes included."""
        return self._overflow.backlog if self._overflow else 0

    @property
    def replayed(self) -> int:
        """Records that went from the spill file to the database, those of dead processes included."""
        return self._overflow.replayed if self._overflow else 0

    @property
    def rejected(self) -> int:
        """Records that the database will never take, kept in a file beside the spill file."""
        return self._overflow.rejected if self._overflow else 0

    @property
    def spill_size(self) -> int:
        """Bytes in the spill files of this process, replayed or not; 0 when all is replayed."""
        return self._overflow.size if self._overflow else 0

    @property
    def available(self) -> bool:
        """Whether the database did what was last asked of it, in time."""
        return self._timely.available

    @property
    def last_error(self) -> str | None:
        """Why it did not; None again when it is back."""
        return self._timely.last_error

    async def start(self) -> None:
        """Prepare the store and begin; with a spill file, a database that is away is no obstacle.

        Raises:
            AuditError: There is no spill file and no database, or the spill file cannot be used.
        """
        if self._overflow:
            await self._overflow.open()
        try:
            await self._timely.prepare()
        except AuditError as error:
            if not self._overflow:
                raise
            self._timely.lost(error)
        self._task = asyncio.create_task(self._write_groups(), name="audit-writer")

    async def write(self, record: Record) -> None:
        """Make a record durable, or in mode ``background`` see to it that it will be.

        A caller that is cancelled while it waits does not take its record with it.

        Raises:
            AuditError: Neither database nor spill file took it (mode ``durable``).
        """
        if not self._durable:
            self.keep(record)
            return
        if not self._room():
            raise AuditError("the audit writer takes no more records: closing, or too many wait already")
        future = asyncio.get_running_loop().create_future()
        self._put((record, future))
        await future

    def keep(self, record: Record) -> None:
        """Take a record that nobody waits for; it is dropped and counted where there is no room."""
        if self._room():
            self._put((record, None))

    async def close(self) -> None:
        """Make everything taken so far durable, and stop; what is spilled stays for the next start."""
        self._closing = True
        self._arrived.set()
        if self._task:
            await self._task
        self._no_room.tell()
        if self._overflow:
            await self._overflow.close()
        await self._timely.close()

    def _room(self) -> bool:
        if self._closing or len(self._pending) >= self._max_pending:
            self._no_room.add()
            return False
        return True

    def _put(self, waiting: _Waiting) -> None:
        self._pending.append(waiting)
        self._arrived.set()
        if self._hurry and 2 * len(self._pending) >= self._max_pending and not self._hurry.done():
            self._hurry.set_result(None)

    async def _write_groups(self) -> None:
        while True:
            if not self._pending:
                if self._closing:
                    return
                self._arrived.clear()
                await self._arrived.wait()
                continue
            await self._grown()
            group = [self._pending.popleft() for _ in range(min(BATCH, len(self._pending)))]
            try:
                await self._settle(group)
            except Exception as error:  # a bug fails its own group, and not every write after it
                # Without the values of variables, which hold what clients said.
                self._log.error("bug in the audit writer", traceback=traceback.format_exc())
                self._fail(group, AuditError(f"bug in the audit writer: {error!r}"))

    async def _grown(self) -> None:
        """Let a group grow while each turn of a busy loop brings more: the whole of it then costs less."""
        size = 0
        while size < len(self._pending) < BATCH:
            size = len(self._pending)
            await asyncio.sleep(0)

    async def _settle(self, group: list[_Waiting]) -> None:
        """Bring a group to the database or to the spill file, and tell those who wait."""
        failure = AuditError(f"the audit database is away: {self._timely.last_error}")
        if self._timely.available or not self._overflow:
            try:
                await self._to_database(group)
                return
            except AuditError as error:
                self._timely.lost(error)
                failure = error
        fitted = 0
        if not self._overflow:
            # They have waited for as long as the group, and would for one deadline each.
            group += self._pending
            self._pending.clear()
        else:
            try:
                fitted = await self._overflow.append([record for record, _ in group])
                failure = AuditError(f"the spill file is full, and {failure}")
            except AuditError as error:
                failure = error
            self._overflow.wake()
        _tell(group[:fitted])
        self._fail(group[fitted:], failure)

    async def _to_database(self, group: list[_Waiting]) -> None:
        records = [record for record, _ in group]
        started = time.perf_counter()
        store = self._timely.store
        self._hurry = asyncio.get_running_loop().create_future() if self._overflow else None
        try:
            await self._timely.run(store.write(records), hurry=self._hurry)
        except Unstorable as error:
            await self._sort_out(group, error)
            return
        finally:
            self._hurry = None
        self.written += len(group)
        self._timely.found()
        _tell(group)
        if self._on_batch:
            self._on_batch(time.perf_counter() - started, len(group))

    async def _sort_out(self, group: list[_Waiting], error: AuditError) -> None:
        """Write one by one, so that a record which no database takes fails alone."""
        refused = await self._timely.run(self._timely.store.write_each([record for record, _ in group]))
        taken = [waiting for waiting in group if waiting[0] not in refused]
        others = [waiting for waiting in group if waiting[0] in refused]
        self.written += len(taken)
        _tell(taken)
        if self._overflow:
            await self._overflow.reject(refused)
            _tell(others)
        else:
            self._fail(others, error)

    def _fail(self, group: Sequence[_Waiting], error: AuditError) -> None:
        if group:
            self._failed += len(group)
            self._log.error("audit records lost", count=len(group), reason=str(error))
        for _, future in group:
            if future and not future.done():
                future.set_exception(error)


def _tell(group: Sequence[_Waiting]) -> None:
    for _, future in group:
        if future and not future.done():
            future.set_result(None)
