"""An engine on a bad day: a clear error each time, never an empty success, always a record."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from guard.audit.record import Outcome
from tests.guarded import HARMLESS, ask, engine_reply, guarded
from tests.scripted import RESET, STALL, Pause, Reply, chat_events

BODY = b"".join(chat_events("With a whetstone.", HARMLESS))
FAST: dict[str, Any] = {"engine": {"first_byte_timeout": 0.5, "idle_timeout": 0.5}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply.json({"error": {"message": "boom"}}, 500), 502),
        (Reply.json({"error": "Unauthorized"}, 401), 502),
        (Reply.json({"error": {"message": "busy"}}, 503, retry_after="7"), 503),
        (Reply.json({"error": {"message": "context length exceeded"}}, 400), 400),
        (Reply.drop(RESET), 502),
        (Reply.drop(STALL), 504),
        (Reply.sse([b"data: {not json}\n\n"]), 502),
        (Reply.sse([]), 502),
        (Reply.json({"hello": "world"}), 502),
    ],
)
async def test_a_failing_engine_is_an_error_with_a_record(
    tmp_path: Path, reply: Reply, status: int, stream: bool
) -> None:
    """Before the first visible token every fault has its status, streamed or not, and is recorded."""
    async with guarded(tmp_path, lambda request: reply, **FAST) as guard:
        got, headers, body = await guard.post(ask(stream=stream))
        records = await guard.records()

    assert got == status, body
    assert body["error"]["message"]
    assert [record.outcome for record in records] == [Outcome.FAILED]
    assert records[0].error
    assert headers.get("retry-after") == ("7" if status == 503 else None)


@pytest.mark.proxy
async def test_nobody_listening_is_502(tmp_path: Path) -> None:
    """An engine that is gone is reported as unreachable."""
    async with guarded(tmp_path) as guard:
        await guard.engine.stop()
        status, _, body = await guard.post(ask())

    assert (status, body["error"]["code"]) == (502, "engine_unreachable")


async def test_a_reset_at_any_byte_is_an_error_and_never_done(tmp_path: Path) -> None:
    """Wherever the engine's stream breaks off, the client gets an error and no [DONE].

    Field lesson 46: an upstream's reset became an empty answer that looked whole.
    """
    offsets = iter(range(1, len(BODY) - len(b"data: [DONE]\n\n"), 37))
    broken = [engine_reply().reset_after(offset) for offset in offsets]
    replies = iter(broken)
    async with guarded(tmp_path, lambda request: next(replies)) as guard:
        outcomes = []
        for _ in broken:
            streamed = await guard.stream()
            failed = streamed.status == 502 or "error" in streamed.events[-1]
            outcomes.append(failed and b"[DONE]" not in streamed.raw)
        records = await guard.records()

    assert all(outcomes)
    assert {record.outcome for record in records} == {Outcome.FAILED}
    assert len(records) == len(broken)


async def test_any_chunking_of_the_engines_bytes_gives_the_same_answer(tmp_path: Path) -> None:
    """The engine's stream may be cut at every byte, multi-byte characters included.

    Field lesson 51: characters cut between two packets became replacement characters.
    """
    events = b"".join(chat_events("Schärfe 研ぐ 🔪.", "考える。\nDecision: comply\n", style="think"))
    reply = Reply.sse([events[at : at + 1] for at in range(len(events))])
    async with guarded(tmp_path, lambda request: reply) as guard:
        body = await guard.chat()

    assert body["choices"][0]["message"]["content"] == "Schärfe 研ぐ 🔪."
    assert body["choices"][0]["message"]["reasoning"] == "考える。\nDecision: comply\n"


async def test_silence_is_bridged_by_comments(tmp_path: Path) -> None:
    """While the thinking is hidden or the engine is slow, a stream gets keep-alive comments.

    Field lesson 50: proxies in between cut connections that were silent while the model thought.
    """
    reply = Reply.sse([Pause(0.5), *chat_events("Hi.", HARMLESS)])
    async with guarded(tmp_path, lambda request: reply, ping_seconds=0.1) as guard:
        streamed = await guard.stream(include_reasoning=False)

    assert b": ping\n\n" in streamed.raw
    assert streamed.text() == "Hi."


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("phase", ["first byte", "thinking", "answer"])
async def test_a_client_that_leaves_stops_the_engine(tmp_path: Path, phase: str, stream: bool) -> None:
    """Whenever the client goes, the engine's connection is dropped and the record says so.

    Field lessons 38, 39, 41 and 42: nobody listened for the client before the first chunk, or behind a
    middleware, and engines went on for minutes; what was to be written in the background was lost.
    """
    events = chat_events("With a whetstone.", HARMLESS)
    cut = {"first byte": 0, "thinking": 4, "answer": len(events) - 4}[phase]
    reply = Reply.sse([*events[:cut], STALL])
    async with guarded(tmp_path, lambda request: reply) as guard:
        records = await guard.leave(ask(stream=stream))

    assert [record.outcome for record in records] == [Outcome.DISCONNECTED]


async def test_two_hundred_streams_do_not_mix(tmp_path: Path) -> None:
    """Concurrent streams each get their own marker and nothing of another's.

    Field lessons 16, 25 and 49: chunks and thinking of concurrent requests got mixed, or their log rows
    one id.
    """

    def echo(request: Any) -> Reply:
        marker = request.json["messages"][-1]["content"].rpartition(" ")[2]
        return engine_reply(f"Answer {marker} ends {marker}.", f"About {marker}.\nDecision: comply\n")

    async with guarded(tmp_path, echo) as guard:
        streams = await asyncio.gather(*(guard.stream(f"Marker #{i:03}#") for i in range(200)))
        records = await guard.records()

    assert [s.text() for s in streams] == [f"Answer #{i:03}# ends #{i:03}#." for i in range(200)]
    assert [s.text("reasoning").split("\n")[0] for s in streams] == [f"About #{i:03}#." for i in range(200)]
    assert all(record.thinking.split()[1].rstrip(".") in record.messages for record in records)
    assert len({record.id for record in records}) == 200
