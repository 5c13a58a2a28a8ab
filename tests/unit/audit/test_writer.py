from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import select

from guard.audit.codec import record_of_line, record_of_row
from guard.audit.losses import Losses
from guard.audit.record import Outcome, Record
from guard.audit.schema import records
from guard.audit.store import AuditStore
from guard.audit.writer import BATCH, AuditWriter
from guard.errors import AuditError
from tests.unit.audit.factory import make_record, make_records


@pytest.fixture
def spill_path(tmp_path: Path) -> Path:
    """Where the spill file lies."""
    return tmp_path / "spill.jsonl"


@asynccontextmanager
async def writing(store: AuditStore, **options: Any) -> AsyncIterator[AuditWriter]:
    """A started writer, closed at the end."""
    writer = AuditWriter(store, **options)
    await writer.start()
    yield writer
    await writer.close()


@contextmanager
def locked(store: AuditStore) -> Iterator[None]:
    """Another process holds the database's write lock."""
    other = sqlite3.connect(store.location, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


async def stored(store: AuditStore) -> dict[str, Record]:
    """All records by id."""
    rows = await store.read(lambda c: c.execute(select(records)).all())
    return {row.id: record_of_row(row._asdict()) for row in rows}


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens in another task."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_written_record_is_in_the_database(store: AuditStore) -> None:
    """When a durable write returns, the record can be read."""
    async with writing(store) as writer:
        await writer.write(make_record())
        assert await stored(store) == {make_record().id: make_record()}
    assert (writer.written, writer.pending, writer.dropped, writer.last_error) == (1, 0, 0, None)


async def test_waiting_records_share_a_transaction(sqlite_store: AuditStore) -> None:
    """What arrives while a group is written makes the next group, and the histogram hears of each.

    Field lesson 57: rows were written one by one.
    """
    groups: list[int] = []
    async with writing(sqlite_store, on_batch=lambda seconds, size: groups.append(size)) as writer:
        await asyncio.gather(*map(writer.write, make_records(BATCH + 10)))
    assert sum(groups) == writer.written == BATCH + 10
    assert max(groups) == BATCH
    assert len(groups) < 10


async def test_a_group_grows_while_each_turn_of_the_loop_brings_a_record(sqlite_store: AuditStore) -> None:
    """Of a busy loop the records of many turns go into one transaction."""
    groups: list[int] = []
    async with writing(sqlite_store, on_batch=lambda seconds, size: groups.append(size)) as writer:
        writes = []
        for record in make_records(10):
            writes.append(asyncio.create_task(writer.write(record)))
            await asyncio.sleep(0)
        await asyncio.gather(*writes)
    assert groups == [10]


async def test_a_cancelled_caller_does_not_take_its_record_with_it(sqlite_store: AuditStore) -> None:
    """A client that leaves while its record is written has one; nor do the others of its group suffer."""
    async with writing(sqlite_store) as writer:
        writes = [asyncio.create_task(writer.write(record)) for record in make_records(20)]
        await asyncio.sleep(0)
        for write in writes[::2]:
            write.cancel()
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, type(None)] * 10
    assert await stored(sqlite_store) == {record.id: record for record in make_records(20)}


async def test_closing_drains(sqlite_store: AuditStore) -> None:
    """Everything that was taken before the close is in the database after it; then nothing is taken."""
    writer = AuditWriter(sqlite_store, mode="background")
    await writer.start()
    for record in make_records(3 * BATCH):
        await writer.write(record)
    await writer.close()
    assert len(await stored(sqlite_store)) == writer.written == 3 * BATCH
    await writer.write(make_record(9999))
    assert writer.dropped == 1


async def test_a_closed_writer_refuses_durable_writes(sqlite_store: AuditStore) -> None:
    """Nobody waits for a writer that has stopped."""
    async with writing(sqlite_store) as writer:
        pass
    with pytest.raises(AuditError, match="closing"):
        await writer.write(make_record())


async def test_a_kept_record_is_written_though_nobody_waits(sqlite_store: AuditStore) -> None:
    """``keep`` returns at once, in either mode."""
    async with writing(sqlite_store) as writer:
        writer.keep(make_record())
    assert set(await stored(sqlite_store)) == {make_record().id}


async def test_without_spill_a_slow_database_fails_the_write(sqlite_store: AuditStore) -> None:
    """A durable write that misses its deadline raises; the writer works on when the database is back."""
    async with writing(sqlite_store, deadline=0.05) as writer:
        with locked(sqlite_store), pytest.raises(AuditError, match=r"took over 0\.05 s"):
            await writer.write(make_record(1))
        assert (writer.dropped, writer.available) == (1, False)
        assert "took over" in str(writer.last_error)
        for attempt in range(100):
            try:
                await writer.write(make_record(2))
                break
            except AuditError:
                await asyncio.sleep(0.05 * attempt)
        assert make_record(2).id in await stored(sqlite_store)
        assert (writer.available, writer.last_error) == (True, None)


async def test_without_spill_nobody_waits_for_several_deadlines(sqlite_store: AuditStore) -> None:
    """What waits behind a group that failed fails with it, and the database is asked once."""
    async with writing(sqlite_store, deadline=0.05) as writer:
        with locked(sqlite_store):
            writes = map(writer.write, make_records(5 * BATCH))
            outcomes = await asyncio.gather(*writes, return_exceptions=True)
        assert {str(outcome) for outcome in outcomes} == {str(outcomes[0])}
        assert writer.dropped == 5 * BATCH


async def test_a_slow_database_makes_records_spill(sqlite_store: AuditStore, spill_path: Path) -> None:
    """Past the deadline records go to the file, which counts as durable, and later to the database, once."""
    batch = make_records(10)
    async with writing(sqlite_store, deadline=0.05, spill_path=spill_path) as writer:
        with locked(sqlite_store):
            await asyncio.gather(*map(writer.write, batch))
            lines = spill_path.read_bytes().splitlines()
            assert [record_of_line(line) for line in lines] == batch
            assert (writer.spilled, writer.available) == (10, False)
        await until(lambda: writer.replayed == 10)
        await until(lambda: writer.spill_size == 0)
        assert await stored(sqlite_store) == {record.id: record for record in batch}
        await writer.write(make_record(11))
        assert (writer.written, writer.spilled, writer.dropped) == (1, 10, 0)
        assert (writer.available, writer.last_error) == (True, None)
    assert not spill_path.exists()


async def test_a_backlog_is_replayed_at_the_next_start(sqlite_store: AuditStore, spill_path: Path) -> None:
    """Records that were spilled when the guard stopped reach the database when it starts again."""
    streaming = make_record(5, stream=True, outcome=Outcome.STREAMING)
    with locked(sqlite_store):
        async with writing(sqlite_store, deadline=0.05, spill_path=spill_path) as writer:
            await asyncio.gather(*map(writer.write, [*make_records(3), streaming]))
    async with writing(sqlite_store, spill_path=spill_path) as writer:
        await until(lambda: writer.replayed == 4)
    found = await stored(sqlite_store)
    assert set(found) == {record.id for record in [*make_records(3), streaming]}
    assert found[streaming.id].outcome in (Outcome.INTERRUPTED, Outcome.STREAMING)


async def test_the_end_of_a_stream_overtakes_its_spilled_beginning(
    sqlite_store: AuditStore, spill_path: Path
) -> None:
    """A first version that is replayed late does not undo the final one."""
    async with writing(sqlite_store, deadline=0.05, spill_path=spill_path) as writer:
        with locked(sqlite_store):
            await writer.write(make_record(stream=True, outcome=Outcome.STREAMING))
            await writer.write(make_record(stream=True, outcome=Outcome.ANSWERED))
        await until(lambda: writer.replayed == 2)
    assert [record.outcome for record in (await stored(sqlite_store)).values()] == [Outcome.ANSWERED]


async def test_a_full_spill_file_fails_the_write(sqlite_store: AuditStore, spill_path: Path) -> None:
    """When neither database nor file has room, the caller is told, and nothing grows."""
    async with writing(sqlite_store, deadline=0.05, spill_path=spill_path, spill_bytes=5000) as writer:
        with locked(sqlite_store):
            outcomes = await asyncio.gather(*map(writer.write, make_records(10)), return_exceptions=True)
            failed = [outcome for outcome in outcomes if isinstance(outcome, AuditError)]
            assert 0 < len(failed) < 10
            assert "the spill file is full" in str(failed[0])
            assert (writer.spilled, writer.dropped) == (10 - len(failed), len(failed))
            assert spill_path.stat().st_size <= 5000
        await until(lambda: writer.replayed == writer.spilled)
    # Not equal: a transaction that was given up on may still come through when the lock goes.
    assert writer.spilled <= len(await stored(sqlite_store)) <= 10


async def test_the_background_is_bounded(sqlite_store: AuditStore) -> None:
    """With no room and no spill file, records are dropped and counted; a write never waits.

    Field lesson 57: buffers of log rows grew without bound while the database was slow.
    """
    async with writing(sqlite_store, mode="background", max_pending=10, deadline=0.05) as writer:
        with locked(sqlite_store):
            for record in make_records(50):
                await writer.write(record)
            assert (writer.pending, writer.dropped) == (10, 40)
    assert writer.written + writer.dropped == 50


async def test_the_background_spills_before_it_drops(sqlite_store: AuditStore, spill_path: Path) -> None:
    """When records pile up behind a database that works on a group, they go to the file, not lost."""
    batch = make_records(200)
    options: dict[str, Any] = {"mode": "background", "max_pending": 20, "deadline": 60.0}
    async with writing(sqlite_store, spill_path=spill_path, **options) as writer:
        with locked(sqlite_store):
            for record in batch:
                await until(lambda: writer.pending < 20)
                await writer.write(record)
            await until(lambda: writer.spilled >= 180)
        await until(lambda: writer.replayed == writer.spilled and writer.pending == 0)
    assert writer.dropped == 0
    assert set(await stored(sqlite_store)) == {record.id for record in batch}


async def test_durable_writes_are_bounded_too(sqlite_store: AuditStore) -> None:
    """When too many wait already, one more is refused rather than kept in memory.

    Field lesson 57: buffers of log rows grew without bound while the database was slow.
    """
    writer = AuditWriter(sqlite_store, max_pending=5)
    writes = [asyncio.create_task(writer.write(record)) for record in make_records(8)]
    await asyncio.sleep(0)
    assert (writer.pending, writer.dropped) == (5, 3)
    await writer.start()
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert [isinstance(outcome, AuditError) for outcome in outcomes] == [False] * 5 + [True] * 3
    await writer.close()


async def test_a_record_that_no_database_takes_fails_alone(sqlite_store: AuditStore) -> None:
    """Without a spill file its caller is told; the others of its group are written."""
    group = [make_record(1), make_record(2, prompt_tokens=2**70), make_record(3)]
    async with writing(sqlite_store) as writer:
        outcomes = await asyncio.gather(*map(writer.write, group), return_exceptions=True)
        assert [isinstance(outcome, AuditError) for outcome in outcomes] == [False, True, False]
        assert (writer.written, writer.dropped, writer.available) == (2, 1, True)
    assert set(await stored(sqlite_store)) == {group[0].id, group[2].id}


async def test_with_spill_it_is_kept_for_a_person(sqlite_store: AuditStore, spill_path: Path) -> None:
    """With a spill file the record is durable beside it, and nothing is tried again for ever."""
    bad = make_record(2, answer="x", prompt_tokens=2**64)
    async with writing(sqlite_store, spill_path=spill_path) as writer:
        await asyncio.gather(*map(writer.write, [make_record(1), bad]))
        assert (writer.written, writer.rejected, writer.spilled, writer.dropped) == (1, 1, 0, 0)
    kept = spill_path.with_name("spill.rejected.jsonl").read_bytes()
    assert record_of_line(kept) == bad


async def test_damaged_lines_do_not_stop_a_replay(sqlite_store: AuditStore, spill_path: Path) -> None:
    """What cannot be read is set aside, what is behind it is replayed."""
    with locked(sqlite_store):
        async with writing(sqlite_store, deadline=0.05, spill_path=spill_path) as writer:
            await writer.write(make_record(1))
    spill_path.write_bytes(b"damage\n" + spill_path.read_bytes())
    async with writing(sqlite_store, spill_path=spill_path) as writer:
        await until(lambda: writer.spill_size == 0)
        assert (writer.replayed, writer.rejected) == (1, 1)
    assert set(await stored(sqlite_store)) == {make_record(1).id}


async def test_a_guard_starts_without_its_database(tmp_path: Path, spill_path: Path) -> None:
    """With a spill file a database that is away at the start is no obstacle; without one it is."""
    url = f"postgresql://guard@/audit?host={tmp_path}"
    store = await AuditStore.open(url, upgrade=False)
    with pytest.raises(AuditError):
        await AuditWriter(store).start()
    async with writing(store, spill_path=spill_path) as writer:
        assert not writer.available
        await writer.write(make_record())
        assert (writer.spilled, writer.dropped) == (1, 0)
    assert record_of_line(spill_path.read_bytes()) == make_record()
    await store.close()


async def test_starting_prepares_the_store(tmp_path: Path) -> None:
    """The schema is made and interrupted streams are marked before the first record."""
    store = await AuditStore.open(tmp_path / "audit.db", upgrade=False)
    async with writing(store) as writer:
        await writer.write(make_record())
    assert len(await stored(store)) == 1
    await store.close()


async def test_a_bug_fails_its_group_and_not_the_writer(sqlite_store: AuditStore) -> None:
    """An error that nobody foresaw reaches those who wait, and later writes work."""
    calls: list[int] = []

    def faulty(seconds: float, size: int) -> None:
        calls.append(size)
        if len(calls) == 1:
            raise ZeroDivisionError

    async with writing(sqlite_store, on_batch=faulty) as writer:
        await writer.write(make_record(1))
        await writer.write(make_record(2))
        broken: Any = "not a record"
        with pytest.raises(AuditError, match="bug in the audit writer"):
            await writer.write(broken)
        await writer.write(make_record(3))
    assert len(await stored(sqlite_store)) == 3


async def test_records_without_room_are_told_in_few_lines(sqlite_store: AuditStore) -> None:
    """The log says how many records were lost, together and not one by one, and the rest at the close."""
    with structlog.testing.capture_logs() as told:
        async with writing(sqlite_store, mode="background", max_pending=10, deadline=60.0) as writer:
            for record in make_records(50):
                await writer.write(record)
    lost = [line["count"] for line in told if line["event"] == "audit records lost"]
    assert lost == [40]


async def test_lost_records_are_told_while_the_writer_runs() -> None:
    """Losses are logged after a while, and later ones again."""
    losses = Losses(seconds=0.01)
    with structlog.testing.capture_logs() as told:
        losses.add()
        losses.add()
        await until(lambda: len(told) == 1)
        losses.add()
        await until(lambda: len(told) == 2)
    assert [line["count"] for line in told] == [2, 1]
    assert losses.count == 3
