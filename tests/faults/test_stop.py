"""SIGTERM: the guard ends in order, and every choice leaves its one record."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from guard.audit.query import Filter, find
from guard.audit.record import Outcome, Record
from guard.audit.store import AuditStore
from tests.guarded import HARMLESS, answering, ask, engine_reply
from tests.process import serving_process
from tests.scripted import Reply, ScriptedEngine, chat_events

RESPONSE = {"model": "default", "input": "How do I sharpen a knife?", "stream": True}


async def _records(folder: Path) -> list[Record]:
    store = await AuditStore.open(folder / "guard.db")
    try:
        return await find(store, Filter(limit=100))
    finally:
        await store.close()


async def test_after_a_signal_the_guard_closes_everything(tmp_path: Path) -> None:
    """After SIGTERM the guard ends with status 0, its spill file gone and its database closed."""
    async with ScriptedEngine() as engine, aiohttp.ClientSession() as session:
        engine.otherwise(answering(lambda request: engine_reply()))
        async with serving_process("--upstream", engine.base_url, folder=tmp_path) as guard:
            async with session.post(f"{guard.url}/chat/completions", json=ask()) as response:
                assert response.status == 200
            guard.process.terminate()
            status = await asyncio.wait_for(guard.process.wait(), 60)

    assert status == 0
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["guard.db"]


async def test_records_that_wait_are_written_before_the_end(tmp_path: Path) -> None:
    """A record that the locked database has not taken when SIGTERM comes is there after the next start.

    In the mode ``background``, in which its answer has left already.
    """
    env = {"GUARD_AUDIT__MODE": "background"}
    async with ScriptedEngine() as engine, aiohttp.ClientSession() as session:
        engine.otherwise(answering(lambda request: engine_reply()))
        async with serving_process("--upstream", engine.base_url, folder=tmp_path, env=env) as guard:
            lock = sqlite3.connect(tmp_path / "guard.db", isolation_level=None)
            lock.execute("BEGIN IMMEDIATE")
            async with session.post(f"{guard.url}/chat/completions", json=ask()) as response:
                assert response.status == 200
            guard.process.terminate()
            await asyncio.wait_for(guard.process.wait(), 60)
            lock.close()
        async with serving_process("--upstream", engine.base_url, folder=tmp_path), asyncio.timeout(60):
            while not (records := await _records(tmp_path)):
                await asyncio.sleep(0.05)

    assert [record.outcome for record in records] == [Outcome.ANSWERED]


@pytest.mark.parametrize("drain", ["0", "1"])
async def test_requests_that_are_cut_off_have_one_record_each(tmp_path: Path, drain: str) -> None:
    """Streams and a plain request still open after the draining are recorded as disconnected, once each.

    The plain one, which has got nothing yet, is told to try again: another guard may answer it.
    """
    never = asyncio.Event()
    *events, finish, usage, done = chat_events(["With ", "a ", "whetstone."], HARMLESS)
    reply = Reply.sse([*events, never, finish, usage, done])
    env = {"GUARD_DRAIN_SECONDS": drain}

    async def read(url: str, body: object, begun: asyncio.Event) -> Any:
        async with session.post(url, json=body) as response:
            if response.status != 200:
                return (
                    response.status,
                    response.headers["retry-after"],
                    (await response.json())["error"]["code"],
                )
            async for part in response.content.iter_any():
                if b"whetstone" in part:
                    begun.set()

    async with ScriptedEngine() as engine, aiohttp.ClientSession() as session:
        engine.otherwise(answering(lambda request: reply))
        async with serving_process("--upstream", engine.base_url, folder=tmp_path, env=env) as guard:
            streams = [asyncio.Event(), asyncio.Event()]
            chat = f"{guard.url}/chat/completions"
            asking = [
                asyncio.create_task(read(chat, ask(stream=True), streams[0])),
                asyncio.create_task(read(f"{guard.url}/responses", RESPONSE, streams[1])),
                asyncio.create_task(read(chat, ask(), asyncio.Event())),
            ]
            async with asyncio.timeout(60):
                await asyncio.gather(*(begun.wait() for begun in streams))
                while sum(request.path.endswith("/chat/completions") for request in engine.requests) < 3:
                    await asyncio.sleep(0.01)
                guard.process.terminate()
                status = await guard.process.wait()
                *_, told = await asyncio.gather(*asking, return_exceptions=True)

    records = await _records(tmp_path)
    assert status == 0
    assert told == (503, "1", "guard_stopping")
    assert [record.outcome for record in records] == [Outcome.DISCONNECTED] * 3
    assert "Traceback" not in "".join(guard.lines)
