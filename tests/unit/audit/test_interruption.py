from __future__ import annotations

import asyncio
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from structlog.testing import capture_logs

from guard.audit.instance import Instance
from guard.audit.interruption import mark_old_streams
from guard.audit.record import Outcome
from guard.audit.schema import records
from guard.audit.store import AuditStore
from tests.unit.audit.factory import make_record


async def _marked(told: Sequence[MutableMapping[str, Any]], count: int) -> None:
    """Wait until the log says that so many are marked."""
    async with asyncio.timeout(30):
        while sum(line.get("count", 0) for line in told) < count:
            await asyncio.sleep(0.01)


async def test_streams_are_looked_for_again_and_again(tmp_path: Path) -> None:
    """A database that is not ready is told and asked again, and then each old stream is marked."""
    store = await AuditStore.open(tmp_path / "audit.db", upgrade=False, instance=Instance("other", 1, "a"))
    with capture_logs() as told:
        marking = asyncio.create_task(mark_old_streams(store, timedelta(minutes=70), every=0.01))
        async with asyncio.timeout(30):
            while not told:
                await asyncio.sleep(0.01)
        assert told[0]["event"] == "unfinished streams not looked for"
        await store.upgrade()
        for number in range(2):
            await store.write([make_record(number, outcome=Outcome.STREAMING)])
            await _marked(told, number + 1)
    marking.cancel()
    with suppress(asyncio.CancelledError):
        await marking
    outcomes = await store.read(lambda c: c.execute(select(records.c.outcome)).scalars().all())
    assert outcomes == ["interrupted", "interrupted"]
    await store.close()
