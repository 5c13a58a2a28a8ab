"""Streams of guards that never come back: they are told by their age, for nobody can ask another host."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import structlog

from guard.audit.store import AuditStore
from guard.errors import AuditError

EVERY_SECONDS = 300.0

log = structlog.get_logger(__name__)


async def mark_old_streams(store: AuditStore, longest: timedelta, every: float = EVERY_SECONDS) -> None:
    """Mark streams that began too long ago to go on, at once and every so often, until cancelled.

    Args:
        store: Where the records are.
        longest: No stream takes longer; one that does is set right by its final version.
        every: Seconds between two times.
    """
    while True:
        try:
            if marked := await store.mark_interrupted(before=datetime.now(UTC) - longest):
                log.info("unfinished streams marked as interrupted", count=marked)
        except AuditError as error:
            log.warning("unfinished streams not looked for", reason=str(error))
        await asyncio.sleep(every)
