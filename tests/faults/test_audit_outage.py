"""A database that goes away and comes back costs no record."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from guard.audit.codec import record_of_row
from guard.audit.record import Record
from guard.audit.schema import citations, records
from guard.audit.store import AuditStore
from guard.audit.writer import AuditWriter
from tests.postgres import PostgresServer
from tests.unit.audit.factory import make_record

CLIENTS = 8


@dataclass
class Traffic:
    """Clients that write without pause, and what was acknowledged to them."""

    writer: AuditWriter
    acknowledged: list[Record] = field(default_factory=list)
    stopping: bool = False
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def client(self) -> None:
        """Write until told to stop; a little pause keeps the number of records small."""
        while not self.stopping:
            record = make_record(next(self.numbers))
            await self.writer.write(record)
            self.acknowledged.append(record)
            await asyncio.sleep(0.002)

    async def more(self, count: int) -> None:
        """Wait for further acknowledgements."""
        wanted = len(self.acknowledged) + count
        await until(lambda: len(self.acknowledged) >= wanted)


@asynccontextmanager
async def traffic(writer: AuditWriter) -> AsyncIterator[Traffic]:
    """Clients at work; an error of one ends the test."""
    work = Traffic(writer)
    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(work.client())
        yield work
        work.stopping = True


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what other tasks do."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def check(store: AuditStore, writer: AuditWriter, acknowledged: list[Record]) -> None:
    """Everything acknowledged is there, once, as it was, and nothing was dropped."""
    await until(lambda: writer.spill_size == 0 and writer.pending == 0)
    rows = await store.read(lambda c: c.execute(select(records)).all())
    found = {row.id: record_of_row(row._asdict()) for row in rows}
    assert len(rows) == len(found)
    assert found == {record.id: record for record in acknowledged}
    cited = await store.read(lambda c: c.execute(select(citations.c.record_id)).scalars().all())
    assert len(cited) == 2 * len(acknowledged)
    assert (writer.dropped, writer.rejected, writer.replayed) == (0, 0, writer.spilled)
    assert (writer.available, writer.last_error) == (True, None)


async def test_a_server_that_crashes_and_comes_back(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    """Writes go on through a crash of the server; after its restart everything is there once."""
    store = await AuditStore.open(postgres_url)
    writer = AuditWriter(store, spill_path=tmp_path / "spill.jsonl")
    await writer.start()
    async with traffic(writer) as work:
        await work.more(50)
        await asyncio.to_thread(postgres.stop)
        try:
            await until(lambda: writer.spilled > 0)
            await work.more(100)
            assert not writer.available
        finally:
            await asyncio.to_thread(postgres.start)
        await until(lambda: writer.available)
        await work.more(50)
    assert writer.spilled > 50
    assert writer.written > 50
    await check(store, writer, work.acknowledged)
    await writer.close()
    await store.close()


async def test_a_server_that_stands_still(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    """A server that takes connections and never answers makes records spill; it may finish them later."""
    store = await AuditStore.open(postgres_url)
    writer = AuditWriter(store, spill_path=tmp_path / "spill.jsonl", deadline=0.2)
    await writer.start()
    async with traffic(writer) as work:
        await work.more(50)
        await asyncio.to_thread(postgres.pause, True)
        try:
            await until(lambda: writer.spilled > 0)
            await work.more(100)
        finally:
            await asyncio.to_thread(postgres.pause, False)
        await until(lambda: writer.available)
        await work.more(50)
    await check(store, writer, work.acknowledged)
    await writer.close()
    await store.close()


async def test_a_guard_that_starts_before_its_server(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    """With a spill file a guard serves at once; the schema is made when the server comes."""
    await asyncio.to_thread(postgres.stop, "fast")
    try:
        store = await AuditStore.open(postgres_url, upgrade=False)
        writer = AuditWriter(store, spill_path=tmp_path / "spill.jsonl")
        await writer.start()
        batch = [make_record(number) for number in range(20)]
        await asyncio.gather(*map(writer.write, batch))
        assert (writer.spilled, writer.available) == (20, False)
    finally:
        await asyncio.to_thread(postgres.start)
    await until(lambda: writer.replayed == 20)
    await check(store, writer, batch)
    await writer.close()
    await store.close()


async def test_a_backlog_outlives_the_guard(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    """A guard that stops while its server is away leaves its records to the next one."""
    store = await AuditStore.open(postgres_url)
    await asyncio.to_thread(postgres.stop)
    try:
        writer = AuditWriter(store, spill_path=tmp_path / "spill.jsonl")
        await writer.start()
        batch = [make_record(number) for number in range(200)]
        await asyncio.gather(*map(writer.write, batch))
        await writer.close()
        await store.close()
    finally:
        await asyncio.to_thread(postgres.start)
    store = await AuditStore.open(postgres_url)
    writer = AuditWriter(store, spill_path=tmp_path / "spill.jsonl")
    await writer.start()
    await until(lambda: writer.replayed == 200)
    await until(lambda: writer.spill_size == 0)
    found = await store.read(lambda c: c.execute(select(records.c.id)).scalars().all())
    assert sorted(found) == [record.id for record in batch]
    await writer.close()
    await store.close()
    assert not (tmp_path / "spill.jsonl").exists()
