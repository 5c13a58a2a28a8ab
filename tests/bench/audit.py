"""What one audit record costs: processor time on the event loop and in all, group sizes, waiting.

    python -m tests.bench.audit                     # SQLite FULL and NORMAL, PostgreSQL if installed
    python -m tests.bench.audit --busy              # on an event loop that never rests
    taskset -c 0 python -m tests.bench.audit ...    # all on one core

Clients write records of about 1.5 KB of text and two citations, one after the other each. The row
"aiosqlite" is the store's alternative, SQLAlchemy's asynchronous layer with rows as dictionaries.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.progress import track
from rich.table import Table as Shown
from sqlalchemy import Table, event, insert
from sqlalchemy.ext.asyncio import create_async_engine

from guard.audit.codec import record_row
from guard.audit.record import Outcome, Record
from guard.audit.schema import citations, findings, metadata, records
from guard.audit.store import AuditStore
from guard.audit.writer import AuditWriter
from tests.postgres import PostgresServer, postgres_programs
from tests.unit.audit.factory import make_records

SLICE = 0.0002
"""Seconds that a busy event loop computes before it looks for events again."""

Write = Callable[[Record], Awaitable[None]]


@dataclass(frozen=True)
class Cost:
    """Of one run, per record."""

    label: str
    clients: int
    per_second: float
    group: float
    loop_us: float
    total_us: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Load:
    """Who writes, and what else goes on."""

    clients: int
    think: float
    """Seconds a client waits between two records, on average."""
    busy: bool
    """Whether the event loop never rests."""


async def measure(label: str, write: Write, groups: list[int], work: list[Record], load: Load) -> Cost:
    """Let clients write all records; occupation of the loop by others is not counted."""
    clients = load.clients
    waits: list[float] = []
    occupied = 0.0
    done = False

    async def client(share: list[Record]) -> None:
        for record in share:
            began = time.perf_counter()
            await write(record)
            waits.append(time.perf_counter() - began)
            if load.think:
                await asyncio.sleep(load.think * random.uniform(0.5, 1.5))

    async def occupy() -> None:
        nonlocal occupied
        while not done:
            began = time.thread_time()
            while time.thread_time() - began < SLICE:
                pass
            occupied += time.thread_time() - began
            await asyncio.sleep(0)

    other = asyncio.create_task(occupy()) if load.busy else None
    began, loop, total = time.perf_counter(), time.thread_time(), time.process_time()
    await asyncio.gather(*(client(work[number::clients]) for number in range(clients)))
    wall = time.perf_counter() - began
    loop, total = time.thread_time() - loop - occupied, time.process_time() - total - occupied
    done = True
    if other:
        await other
    waits.sort()
    count = len(work)
    return Cost(
        label,
        clients,
        count / wall,
        count / max(1, len(groups)),
        loop / count * 1e6,
        total / count * 1e6,
        waits[count // 2] * 1e3,
        waits[count * 99 // 100] * 1e3,
    )


async def through_writer(
    label: str, database: str | Path, synchronous: str, work: list[Record], load: Load
) -> Cost:
    """The guard's own writer on an empty database."""
    async with AsyncExitStack() as stack:
        store = await AuditStore.open(database, synchronous=synchronous)
        stack.push_async_callback(store.close)
        groups: list[int] = []
        writer = AuditWriter(store, on_batch=lambda _, size: groups.append(size))
        await writer.start()
        stack.push_async_callback(writer.close)
        return await measure(label, writer.write, groups, work, load)


async def through_aiosqlite(path: Path, work: list[Record], load: Load) -> Cost:
    """Groups formed in the same way, written through aiosqlite."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")

    @event.listens_for(engine.sync_engine, "connect")
    def _pragmas(connection: Any, _: object) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")

    waiting: list[tuple[Record, asyncio.Future[None]]] = []
    arrived = asyncio.Event()
    groups: list[int] = []

    tables: tuple[tuple[Table, Callable[[Record], list[tuple[object, ...]]]], ...] = (
        (records, lambda r: [record_row(r, "bench", lambda t: t)]),
        (
            citations,
            lambda r: [(r.id, n, c.clause, c.section, c.status, c.quote) for n, c in enumerate(r.citations)],
        ),
        (findings, lambda r: [(r.id, finding) for finding in r.findings]),
    )

    async def write_groups() -> None:
        while True:
            await arrived.wait()
            group, waiting[:] = waiting[:], []
            arrived.clear()
            groups.append(len(group))
            async with engine.begin() as connection:
                for table, rows_of in tables:
                    names = table.columns.keys()
                    rows = [dict(zip(names, row, strict=True)) for r, _ in group for row in rows_of(r)]
                    if rows:
                        await connection.execute(insert(table), rows)
            for _, future in group:
                future.set_result(None)

    async def write(record: Record) -> None:
        future = asyncio.get_running_loop().create_future()
        waiting.append((record, future))
        arrived.set()
        await future

    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    task = asyncio.create_task(write_groups())
    try:
        return await measure("aiosqlite FULL", write, groups, work, load)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await engine.dispose()


def main() -> None:
    """Run all, print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--records", type=int, default=4000)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 32])
    parser.add_argument("--think", type=float, default=0.0, help="milliseconds between a client's records")
    parser.add_argument("--busy", action="store_true", help="an event loop that never rests")
    parser.add_argument("--folder", type=Path, default=None, help="where the databases lie")
    options = parser.parse_args()
    costs: list[Cost] = []
    plain = make_records(options.records)
    streams = [record._replace(stream=True, outcome=Outcome.STREAMING) for record in plain]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder)))
        server: PostgresServer | None = None
        if programs := postgres_programs():
            socket = stack.enter_context(tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp"))
            server = PostgresServer(Path(socket), programs, durable=True)
            server.start()
            stack.callback(server.stop)
        for clients in track(options.clients, "measuring", transient=True):
            work = plain if clients > 1 else plain[: options.records // 4]
            both = [
                version
                for record in streams[: len(work) // 2]
                for version in (record, record._replace(outcome=Outcome.ANSWERED))
            ]
            here = folder / str(clients)
            here.mkdir()

            def run(cost: Any) -> None:
                costs.append(uvloop.run(cost))

            load = Load(clients, options.think / 1e3, options.busy)
            run(through_writer("SQLite FULL", here / "full.db", "FULL", work, load))
            run(through_writer("SQLite NORMAL", here / "normal.db", "NORMAL", work, load))
            run(through_writer("SQLite FULL, streams", here / "streams.db", "FULL", both, load))
            if server:
                run(through_writer("PostgreSQL", server.create_schema(), "", work, load))
                run(through_writer("PostgreSQL, streams", server.create_schema(), "", both, load))
            run(through_aiosqlite(here / "aio.db", work, load))
    table = Shown("", "clients", "records/s", "group", "loop us", "total us", "p50 ms", "p99 ms")
    for cost in costs:
        figures = (cost.per_second, cost.group, cost.loop_us, cost.total_us, cost.p50_ms, cost.p99_ms)
        shown = [f"{figure:,.{digits}f}" for figure, digits in zip(figures, (0, 1, 1, 1, 2, 2), strict=True)]
        table.add_row(cost.label, str(cost.clients), *shown)
    Console().print(table)


if __name__ == "__main__":
    main()
