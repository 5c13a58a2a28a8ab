"""Connections: clients that leave, engines that close, a thousand at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from guard.audit.record import Outcome
from tests.guarded import HARMLESS, Guarded, ask, engine_reply, guarded
from tests.scripted import STALL, ReceivedRequest, Reply, chat_events
from tests.security.surfaces import SURFACES, Surface, tell
from tests.security.wire import post


async def _leave(guard: Guarded, sent: bytes, arrived: int) -> None:
    """Send a request and go once the engine has it."""
    host, _, port = guard.url.removeprefix("http://").removesuffix("/v1").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    while len(guard.calls) < arrived:
        await asyncio.sleep(0.002)
    writer.transport.abort()


async def _until_idle(guard: Guarded) -> None:
    """Wait until the engine holds no connection but perhaps the one of the health check."""
    async with asyncio.timeout(30):
        while guard.server.open_connections > 1:
            await asyncio.sleep(0.02)


async def _outcomes(guard: Guarded, count: int) -> Counter[Outcome]:
    """How this many choices ended, once their records are there."""
    async with asyncio.timeout(60):
        while True:
            records = await guard.records()
            found = Counter(record.outcome for record in records)
            if len(records) >= count and not found[Outcome.STREAMING]:
                return found
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("surface", SURFACES, ids=str)
async def test_clients_that_leave_leak_no_connection(tmp_path: Path, surface: Surface) -> None:
    """Before the first byte, in the thinking and in the answer, streamed and not, 120 times in a row.

    Field lessons 38 to 41: slots of the pool leaked at every cancellation, and engines went on for minutes.
    """
    await _disconnects(tmp_path, surface, rounds=10)


async def test_five_hundred_clients_that_leave_leak_no_connection(tmp_path: Path) -> None:
    """The same 504 times on one endpoint."""
    await _disconnects(tmp_path, SURFACES[0], rounds=42)


async def _disconnects(folder: Path, surface: Surface, *, rounds: int) -> None:
    events = chat_events("With a whetstone.", HARMLESS)
    phases = [Reply.drop(STALL), *(Reply.sse([*events[:cut], STALL]) for cut in (0, 4, len(events) - 4))]
    stalling = [phases[number % len(phases)] for number in range(rounds * 12)]
    replies = iter(stalling)
    async with guarded(folder, lambda request: next(replies, engine_reply())) as guard:
        for number in range(rounds):
            await asyncio.gather(
                *(
                    _leave(
                        guard,
                        post(f"/v1{surface.path}", surface.ask() | ({"stream": True} if at % 2 else {})),
                        number * 12 + 12,
                    )
                    for at in range(12)
                )
            )
        await _until_idle(guard)
        async with asyncio.timeout(60):
            await asyncio.gather(*(call.disconnected.wait() for call in guard.calls))
        told = await tell(guard, surface, surface.ask())
        outcomes = await _outcomes(guard, rounds * 12 + 1)

    assert told.text == "With a whetstone."
    assert outcomes == {Outcome.DISCONNECTED: rounds * 12, Outcome.ANSWERED: 1}


async def _ask_again_after(guard: Guarded, pauses: list[float]) -> list[int]:
    """Ask, fall silent for a while, ask again, each pause on a connection of its own; all statuses."""

    async def once(pause: float) -> list[int]:
        first, _, _ = await guard.post(ask())
        await asyncio.sleep(pause)
        second, _, _ = await guard.post(ask())
        return [first, second]

    return [status for pair in await asyncio.gather(*map(once, pauses)) for status in pair]


async def test_a_connection_that_the_engine_closes_just_then_is_no_error(tmp_path: Path) -> None:
    """An engine that closes idle connections while the guard sends on them costs a second try, no more.

    Field lesson 45: the keep-alive race. Here the engine closes after half a second, well within the time
    for which the guard keeps connections, and requests come within 40 ms around it.
    """
    async with guarded(tmp_path) as guard:
        guard.server.idle_close = 0.5
        statuses = await _ask_again_after(guard, [0.46 + 0.002 * number for number in range(40)])

    assert statuses == [200] * 80


async def test_requests_at_the_time_when_vllm_closes_are_no_error(tmp_path: Path) -> None:
    """Fifty requests after 4.9 to 5.1 seconds of silence, against an engine that closes after 5.0."""
    async with guarded(tmp_path) as guard:
        guard.server.idle_close = 5.0
        statuses = await _ask_again_after(guard, [4.9 + 0.004 * number for number in range(50)])

    assert statuses == [200] * 100


async def test_a_request_that_had_begun_to_be_answered_is_not_sent_twice(tmp_path: Path) -> None:
    """Only a connection that was lost before any byte of an answer is tried again."""
    whole = b"".join(chat_events("Hi.", HARMLESS))
    async with guarded(tmp_path, lambda request: engine_reply().reset_after(len(whole) // 2)) as guard:
        status, _, _ = await guard.post(ask())

        assert (status, len(guard.calls)) == (502, 1)


@asynccontextmanager
async def _crowd(guard: Guarded) -> AsyncIterator[Guarded]:
    """The same guard for a client without a limit of connections."""
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"content-type": "application/json"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        yield Guarded(guard.url, session, guard.engine, guard.database)


async def _together(folder: Path, count: int) -> tuple[list[str], int]:
    """Stream this many answers that all end only when all have begun; the texts, and the records."""
    everybody = asyncio.Event()
    waiting = 0

    def answer(request: ReceivedRequest) -> Reply:
        nonlocal waiting
        waiting += 1
        if waiting == count:
            everybody.set()
        marker = request.json["messages"][-1]["content"].rpartition(" ")[2]
        first, *rest = chat_events([f"Answer {marker}", f" ends {marker}."], HARMLESS)
        return Reply.sse([first, everybody, *rest])

    async with guarded(folder, answer) as guard, _crowd(guard) as crowd:
        streams = await asyncio.gather(*(crowd.stream(f"Marker #{number}#") for number in range(count)))
        outcomes = await _outcomes(guard, count)
        await _until_idle(guard)

    assert all(streamed.status == 200 and streamed.events[-1] == "[DONE]" for streamed in streams)
    return [streamed.text() for streamed in streams], outcomes[Outcome.ANSWERED]


async def test_three_hundred_streams_at_once_all_end(tmp_path: Path) -> None:
    """No pool caps them at a hundred: each is open while all the others are.

    Field lesson 44: default pools of a hundred connections made the next stream wait for the first.
    """
    texts, records = await _together(tmp_path, 300)

    assert texts == [f"Answer #{number}# ends #{number}#." for number in range(300)]
    assert records == 300


@pytest.mark.slow
async def test_a_thousand_streams_at_once_on_one_worker_all_end(tmp_path: Path) -> None:
    """The same with a thousand."""
    texts, records = await _together(tmp_path, 1000)

    assert texts == [f"Answer #{number}# ends #{number}#." for number in range(1000)]
    assert records == 1000
