"""A store that answers within a deadline, or counts as away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

from guard.audit.store import AuditStore
from guard.errors import AuditError

T = TypeVar("T")

PREPARE_FACTOR = 15.0
"""Deadlines that bringing the schema up to date may take."""


class TimelyStore:
    """Runs database work with a deadline and remembers whether the database is there."""

    def __init__(self, store: AuditStore, deadline: float) -> None:
        """Wrap a store.

        Args:
            store: Open.
            deadline: Seconds that one piece of work may take.
        """
        self.store = store
        self._deadline = deadline
        self._prepared = False
        self._abandoned: set[asyncio.Task[Any]] = set()
        """Work that took too long. It may still succeed, which does no harm: records are rewritten."""
        self._log = structlog.get_logger("guard.audit")
        self.available = True
        """Whether the last piece of work was done in time."""
        self.last_error: str | None = None
        """Why it was not."""

    async def prepare(self) -> None:
        """Bring the schema up to date and mark interrupted streams, once.

        Raises:
            AuditError: It failed or took too long.
        """
        if not self._prepared:
            await self.run(self.store.prepare(), factor=PREPARE_FACTOR)
            self._prepared = True

    async def run(
        self, work: Coroutine[Any, Any, T], *, factor: float = 1.0, hurry: asyncio.Future[None] | None = None
    ) -> T:
        """Do work; where it is too slow, leave it behind.

        Args:
            work: Uses the store.
            factor: How many deadlines it may take.
            hurry: Ends the waiting at once when it is done.

        Raises:
            AuditError: It failed or took too long.
        """
        task = asyncio.create_task(work)
        waiting: set[asyncio.Future[Any]] = {task, hurry} if hurry else {task}
        try:
            await asyncio.wait(waiting, timeout=self._deadline * factor, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not task.done():
                self._abandon(task)
        if task.done():
            return task.result()
        hurried = hurry is not None and hurry.done()
        reason = "is slower than records come" if hurried else f"took over {self._deadline * factor:g} s"
        raise AuditError(f"{self.store.location}: the database {reason}")

    def lost(self, error: Exception) -> None:
        """Note that the database is away."""
        if self.available:
            self._log.error("audit database away", reason=str(error))
        self.available = False
        self.last_error = str(error)

    def found(self) -> None:
        """Note that the database does its work."""
        if not self.available:
            self._log.warning("audit database back")
        self.available = True
        self.last_error = None

    async def close(self) -> None:
        """End the work that was left behind."""
        for task in self._abandoned:
            task.cancel()
        await asyncio.gather(*self._abandoned, return_exceptions=True)

    def _abandon(self, task: asyncio.Task[Any]) -> None:
        self._abandoned.add(task)
        task.add_done_callback(self._forget)
        task.cancel()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as seen
