"""Streams that a guard on another host left unfinished."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from guard.audit.instance import Instance
from guard.audit.record import Outcome
from guard.audit.store import AuditStore
from tests.guarded import guarded
from tests.unit.audit.factory import make_record


async def test_old_streams_of_another_host_are_marked(tmp_path: Path) -> None:
    """A stream that is older than a choice can take is interrupted, a younger one of another host goes on."""
    now = datetime.now(UTC)
    streams = [
        make_record(number, started_at=now - age, outcome=Outcome.STREAMING)
        for number, age in enumerate((timedelta(minutes=71), timedelta(minutes=59)))
    ]
    store = await AuditStore.open(tmp_path / "guard.db", instance=Instance("replaced", 1, "pod"))
    await store.write(streams)
    await store.close()

    async with guarded(tmp_path) as guard, asyncio.timeout(60):
        while True:
            outcomes = {record.id: record.outcome for record in await guard.records()}
            if outcomes[streams[0].id] is not Outcome.STREAMING:
                break
            await asyncio.sleep(0.05)

    assert outcomes == {streams[0].id: Outcome.INTERRUPTED, streams[1].id: Outcome.STREAMING}
