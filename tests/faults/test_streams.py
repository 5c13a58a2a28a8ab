"""A stream stays a stream: nothing is gathered up, joined otherwise, or told after its end."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from pathlib import Path
from typing import Any

import orjson
import pytest

from guard.audit.record import Outcome
from guard.policy.load import load_policy
from tests.guarded import HARMLESS, POLICY, REFUSING, engine_reply, guarded
from tests.scripted import DONE, Reply, Step, chat_events, sse_event
from tests.security.surfaces import CHAT, COMPLETIONS, ENFORCE, HARMFUL, SURFACES, Surface, each_surface, tell

REFUSAL = load_policy(POLICY).refusals["self-harm"]
LAST = {
    "chat": "[DONE]",
    "completions": "[DONE]",
    "responses": "response.completed",
    "messages": "message_stop",
}
"""What the last event of a stream is, or its type."""
USAGE = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}


@pytest.mark.parametrize("surface", SURFACES, ids=str)
async def test_each_word_is_relayed_before_the_next_one_is_there(tmp_path: Path, surface: Surface) -> None:
    """The engine says its next word only when the client has read the one before.

    Field lessons 1, 7 and 18: with checks on, streams became one piece at the end, or 16 KB at a time.
    """
    words = ["With ", "a ", "whetstone."]
    read = {word: asyncio.Event() for word in words}
    *thinking, one, two, three, finish, usage, done = chat_events(words, HARMLESS)
    answer: list[Step] = [one, read["With "], two, read["a "], three, read["whetstone."]]
    steps = [*thinking, *answer, finish, usage, done]
    async with guarded(tmp_path, lambda request: Reply.sse(steps)) as guard, asyncio.timeout(20):
        body = orjson.dumps(surface.ask(stream=True))
        async with guard.session.post(guard.url + surface.path, data=body) as response:
            raw = b""
            async for part in response.content.iter_any():
                raw += part
                for word in words:
                    if b'"%b"' % word.encode() in raw:
                        read[word].set()

    assert all(event.is_set() for event in read.values())
    assert LAST[surface.name].encode() in raw


@each_surface()
async def test_pieces_are_joined_as_they_are(tmp_path: Path, surface: Surface, stream: bool) -> None:
    """What is judged and recorded is what the engine said, and what the client reads.

    Field lesson 2: chunks were joined again with spaces between them.
    """
    thinking = ["Sharpen", "ing har", "ms no", "body.\nDeci", "sion: com", "ply\n"]
    async with guarded(
        tmp_path, lambda request: engine_reply(["ass", "isting", " ", "you"], thinking)
    ) as guard:
        told = await tell(guard, surface, surface.ask(), stream=stream)
        record = (await guard.records())[0]

    assert told.text == record.answer == "assisting you"
    assert record.thinking == "".join(thinking)


@pytest.mark.parametrize("surface", SURFACES, ids=str)
async def test_the_engine_is_asked_alike_whether_or_not_the_client_streams(
    tmp_path: Path, surface: Surface
) -> None:
    """Field lesson 4: a check inherited the client's stream flag and died of it."""
    async with guarded(tmp_path) as guard:
        for stream in (False, True):
            await tell(guard, surface, surface.ask(), stream=stream)
        whole, streamed = (call.json for call in guard.calls)

    assert whole == streamed
    assert (whole["stream"], whole["stream_options"]["include_usage"]) == (True, True)


@pytest.mark.parametrize("surface", SURFACES, ids=str)
async def test_a_refusal_of_the_guard_is_a_stream_where_one_was_asked_for(
    tmp_path: Path, surface: Surface
) -> None:
    """With the same headers as any other stream: nothing between guard and client is to gather it up.

    Field lessons 13, 18, 19 and 52: a check turned streaming off, or answered a stream with JSON.
    """
    reply = engine_reply("Sure, the first step is simple.", REFUSING)
    async with guarded(tmp_path, lambda request: reply, **ENFORCE) as guard:
        told = await tell(guard, surface, surface.ask(HARMFUL), stream=True)

    assert (told.text, told.ended) == (REFUSAL, True)
    assert told.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (told.headers["x-accel-buffering"], told.headers["cache-control"]) == ("no", "no-cache")
    assert told.headers["x-guard-policy"].startswith("default@")


@pytest.mark.parametrize("surface", SURFACES, ids=str)
async def test_nothing_comes_after_the_end(tmp_path: Path, surface: Surface) -> None:
    """What an engine says after its own end is not looked at, be it an error.

    Field lesson 9: a stray error frame followed the end of a message.
    """
    stray = [sse_event({"error": {"message": "boom"}}), *chat_events("More.", HARMLESS)]
    reply = Reply.sse([*chat_events("With a whetstone.", HARMLESS), *stray])
    async with guarded(tmp_path, lambda request: reply) as guard:
        told = await tell(guard, surface, surface.ask(), stream=True)
        record = (await guard.records())[0]

    last = told.raw.strip().rpartition(b"data: ")[2]
    assert (told.text, told.ended, told.error) == ("With a whetstone.", True, "")
    assert (last.decode() if last == b"[DONE]" else orjson.loads(last)["type"]) == LAST[surface.name]
    assert record.outcome is Outcome.ANSWERED


@each_surface()
async def test_a_long_answer_comes_through_whole(tmp_path: Path, surface: Surface, stream: bool) -> None:
    """A megabyte in a thousand pieces: the engine's answer is not closed before it is over.

    Field lesson 43: large slow streams were cut off by their own proxy.
    """
    pieces = [f"{number:04}" + "x" * 996 for number in range(1000)]
    async with guarded(tmp_path, lambda request: engine_reply(pieces)) as guard:
        told = await tell(guard, surface, surface.ask(), stream=stream)

    assert told.text == "".join(pieces)


@each_surface()
async def test_what_cannot_be_recorded_is_not_answered(
    tmp_path: Path, surface: Surface, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where neither the database nor the disk takes the record, the client gets an error and no text.

    Field lesson 8: a check that failed made every stream of two endpoints a 500, whatever was configured.
    """

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with guarded(tmp_path) as guard:
        with sqlite3.connect(guard.database) as database:
            database.execute("DROP TABLE records")
        monkeypatch.setattr(os, "pwrite", full)
        told = await tell(guard, surface, surface.ask(), stream=stream)

    assert told.status >= 500 or not told.ended
    assert (told.text, bool(told.error)) == ("", True)


ENDING = {"index": 0, "delta": {}, "finish_reason": "stop"}
BEFORE_THE_END = chat_events("Hi.", HARMLESS, finish=None, usage=False, done=False)
PLACES: dict[str, list[bytes]] = {
    "with the finish reason": [sse_event({"choices": [ENDING], "usage": USAGE})],
    "twice": [sse_event({"choices": [ENDING]}), *[sse_event({"choices": [], "usage": USAGE})] * 2],
    "with a choice that says nothing": [
        sse_event({"choices": [ENDING]}),
        sse_event({"choices": [{"delta": {}}], "usage": USAGE}),
    ],
    "nowhere": [sse_event({"choices": [ENDING]})],
}


@pytest.mark.parametrize("surface", [CHAT, COMPLETIONS], ids=str)
@pytest.mark.parametrize("place", PLACES)
async def test_usage_is_told_once_and_only_where_it_is_asked_for(
    tmp_path: Path, surface: Surface, place: str
) -> None:
    """Wherever the engine puts it; the engine is always asked, for the record.

    Field lessons 47 and 48: usage came twice, not at all, or unasked.
    """
    reply = Reply.sse([*BEFORE_THE_END, *PLACES[place], DONE])
    asking: dict[str, Any] = {"stream_options": {"include_usage": True}}
    async with guarded(tmp_path, lambda request: reply) as guard:
        plain = await tell(guard, surface, surface.ask(), stream=True)
        asked = await tell(guard, surface, surface.ask(**asking), stream=True)
        records = await guard.records()
        sent = [call.json["stream_options"]["include_usage"] for call in guard.calls]

    chunks = [orjson.loads(line[6:]) for line in asked.raw.split(b"\n") if line.startswith(b"data: {")]
    assert [chunk["choices"] for chunk in chunks if chunk["usage"]] == [[]]
    assert b'"usage"' not in plain.raw
    assert sent == [True, True]
    assert all(record.completion_tokens > 0 for record in records)
    assert len({record.id for record in records}) == 2
