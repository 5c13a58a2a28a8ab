"""No acknowledged record is lost when a guard is killed."""

from __future__ import annotations

import asyncio
import random
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from sqlalchemy import select

from guard.audit.codec import record_of_row
from guard.audit.record import Outcome, Record
from guard.audit.schema import citations, records
from guard.audit.store import AuditStore
from tests.faults.audit_child import record_of

AT_ONCE = 2
"""Guards that write to the same database at the same time."""


async def acknowledged_until_killed(database: str, spill: Path, after: int) -> dict[str, str]:
    """Run a writing guard, kill it after some acknowledgements; what it had acknowledged by then."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.audit_child", database, str(spill)), stdout=PIPE
    )
    assert child.stdout
    lines = [await child.stdout.readline() for _ in range(after)]
    child.kill()
    lines += (await child.stdout.read()).splitlines(keepends=True)
    await child.wait()
    return dict(line.decode().split() for line in lines if line.endswith(b"\n"))


async def check(database: str, spill: Path, kills: int, seed: int) -> None:
    """Kill guards again and again; each time everything acknowledged is in the database, as it was."""
    chance = random.Random(seed)
    acknowledged: dict[str, str] = {}
    for _ in range(kills // AT_ONCE):
        rounds = (acknowledged_until_killed(database, spill, chance.randint(1, 150)) for _ in range(AT_ONCE))
        for told in await asyncio.gather(*rounds):
            assert told
            acknowledged |= told
        store = await AuditStore.open(database)
        rows = await store.read(lambda c: c.execute(select(records)).all())
        assert await store.mark_interrupted() == sum(row.outcome == Outcome.STREAMING for row in rows)
        await store.close()
        found = {row.id: record_of_row(row._asdict()) for row in rows}
        assert len(found) == len(rows)
        assert acknowledged.keys() <= found.keys()
        assert [name for name, outcome in acknowledged.items() if not holds(found[name], outcome)] == []
    store = await AuditStore.open(database)
    cited = await store.read(lambda c: set(c.execute(select(citations.c.record_id)).scalars()))
    assert acknowledged.keys() <= cited
    await store.close()


def holds(stored: Record, outcome: str) -> bool:
    """Whether what is stored is what was acknowledged, or a later version of it."""
    process, number, _ = stored.id.split("-")
    if outcome == Outcome.STREAMING and stored.outcome is not Outcome.ANSWERED:
        return stored.outcome in (Outcome.STREAMING, Outcome.INTERRUPTED)
    return stored == record_of(int(process), int(number), Outcome.ANSWERED)


async def test_killed_guards_lose_nothing_on_sqlite(tmp_path: Path) -> None:
    """Ten kills of guards that share a file."""
    await check(str(tmp_path / "audit.db"), tmp_path / "spill.jsonl", kills=10, seed=1)


async def test_killed_guards_lose_nothing_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    """Four kills of guards that share a server."""
    await check(postgres_url, tmp_path / "spill.jsonl", kills=4, seed=2)


@pytest.mark.slow
async def test_two_hundred_kills_on_sqlite(tmp_path: Path) -> None:
    """The long version."""
    await check(str(tmp_path / "audit.db"), tmp_path / "spill.jsonl", kills=200, seed=3)


@pytest.mark.slow
async def test_two_hundred_kills_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    """The long version."""
    await check(postgres_url, tmp_path / "spill.jsonl", kills=200, seed=4)
