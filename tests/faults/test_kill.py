"""kill -9 of the guard under load: no answer that a client got whole lacks its record."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from guard.audit.query import Filter, find
from guard.audit.record import Outcome
from guard.audit.store import AuditStore
from tests.guarded import answering, ask, engine_reply
from tests.process import serving_process
from tests.scripted import ScriptedEngine


async def _ask_until_dead(url: str, stream: bool, whole: list[str], begun: list[str]) -> None:
    """Send requests until the guard is gone; note the ids of answers that began, and that came whole.

    With the thinking hidden the first byte of a stream comes after the decision.
    """
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                asked = ask(stream=stream, include_reasoning=False)
                async with session.post(f"{url}/chat/completions", json=asked) as response:
                    request_id = response.headers["x-guard-request-id"]
                    begun.append(request_id)
                    body = await response.read()
                    if not stream or body.endswith(b"data: [DONE]\n\n"):
                        whole.append(request_id)
            except aiohttp.ClientError:
                return


async def _kill_under_load(folder: Path, times: int) -> tuple[list[str], list[str], list[Any]]:
    whole: list[str] = []
    begun: list[str] = []
    chance = random.Random(times)
    async with ScriptedEngine() as engine:
        engine.otherwise(answering(lambda request: engine_reply()))
        for _ in range(times):
            async with serving_process("--upstream", engine.base_url, folder=folder) as guard:
                asking = [
                    asyncio.create_task(_ask_until_dead(guard.url, number % 2 == 1, whole, begun))
                    for number in range(8)
                ]
                await asyncio.sleep(chance.uniform(0.05, 0.6))
                os.kill(guard.process.pid, signal.SIGKILL)
                await guard.process.wait()
                await asyncio.gather(*asking)
        async with serving_process("--upstream", engine.base_url, folder=folder):
            pass  # a last start, which puts in order what the dead ones left
    store = await AuditStore.open(folder / "guard.db")
    try:
        return whole, begun, await find(store, Filter(limit=1_000_000))
    finally:
        await store.close()


def _check(whole: list[str], begun: list[str], records: list[Any]) -> None:
    recorded = {record.request_id: record for record in records}
    assert whole
    assert [request_id for request_id in whole if request_id not in recorded] == []
    assert {recorded[request_id].outcome for request_id in whole} == {Outcome.ANSWERED}
    assert [request_id for request_id in begun if request_id not in recorded] == []
    assert Outcome.STREAMING not in {record.outcome for record in records}
    assert len(recorded) == len(records)


async def test_no_answer_lacks_its_record_over_kills(tmp_path: Path) -> None:
    """Over five kill -9 under load every answer, and every stream that began to answer, is recorded once."""
    _check(*await _kill_under_load(tmp_path, 5))


@pytest.mark.slow
async def test_no_answer_lacks_its_record_over_two_hundred_kills(tmp_path: Path) -> None:
    """The same over two hundred kills."""
    _check(*await _kill_under_load(tmp_path, 200))
