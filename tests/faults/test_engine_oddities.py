"""Engines that break the protocol: each endpoint says so clearly, and the record has it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from guard.audit.record import Outcome
from tests.guarded import HARMLESS, engine_reply, guarded
from tests.scripted import DONE, Reply, chat_events, sse_event
from tests.security.surfaces import CHAT, MESSAGES, SURFACES, TURNS, Surface, each_surface, tell

DATE = format_datetime(datetime.now(UTC) + timedelta(days=2))


@each_surface()
@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        ("7", 7),
        (None, None),
        # Named by hand: a name with the time in it differs between the processes that run the tests.
        pytest.param(DATE, 86_400, id="date"),
        ("soon", None),
    ],
)
async def test_an_engine_that_has_no_room_is_told_as_such(
    tmp_path: Path, surface: Surface, stream: bool, after: str | None, seconds: int | None
) -> None:
    """429 becomes the endpoint's own word for overload, with the seconds to wait where the engine gave them.

    Engines answer 429 and 503 with Retry-After, which clients must see to wait.
    """
    headers = {} if after is None else {"retry_after": after}
    reply = Reply.json({"error": {"message": "busy"}}, 429, **headers)
    async with guarded(tmp_path, lambda request: reply) as guard:
        told = await tell(guard, surface, surface.ask(), stream=stream)
        record = (await guard.records())[0]

    assert told.status == (529 if surface is MESSAGES else 503)
    given = told.headers.get("retry-after")
    assert (int(given) if given else None) == seconds or (seconds == 86_400 and given is not None)
    assert record.outcome is Outcome.FAILED


def stream_of(*deltas: Any, **more: Any) -> Reply:
    """A stream whose chunks have these deltas, and what else stands in them."""
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}], **more} for delta in deltas]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return Reply.sse([*map(sse_event, chunks), sse_event(end), DONE])


MALFORMED: dict[str, Reply] = {
    "no choices": Reply.sse([sse_event({"choices": None}), DONE]),
    "choices that are none": Reply.sse([sse_event({"choices": [1]}), DONE]),
    "a text for an index": Reply.sse([sse_event({"choices": [{"index": "0", "delta": {}}]}), DONE]),
    "a number for text": stream_of({"content": 5}),
    "a list for text": stream_of({"content": [{"type": "text", "text": "x"}]}),
    "an object for reasoning": stream_of({"reasoning": {"text": "x"}}),
    "a text for tool calls": stream_of({"tool_calls": "look"}),
    "a text for a tool call": stream_of({"tool_calls": ["look"]}),
    "a text for a function": stream_of({"tool_calls": [{"index": 0, "function": "look"}]}),
    "a number for a name": stream_of({"tool_calls": [{"index": 0, "function": {"name": 5}}]}),
    "a number for arguments": stream_of(
        {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": 5}}]}
    ),
    "a call far beyond the last": stream_of({"tool_calls": [{"index": 10**9, "function": {"name": "f"}}]}),
    "a text for usage": stream_of({"content": "x"}, usage="many"),
    "a text for counted tokens": stream_of({"content": "x"}, usage={"completion_tokens": "many"}),
    "a number for a finish reason": Reply.sse(
        [sse_event({"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": 5}]}), DONE]
    ),
    "an array": Reply.sse([sse_event([]), DONE]),
    "half a chunk": Reply.sse([b'data: {"choices": [{"delta"\n\n', DONE]),
    "no finish reason": Reply.sse([*chat_events("Hi.", HARMLESS, finish=None)]),
    "an answer of another kind": Reply.json({"object": "text_completion", "choices": [{"text": "x"}]}),
}


@each_surface()
async def test_malformed_chunks_are_the_engines_fault(tmp_path: Path, surface: Surface, stream: bool) -> None:
    """502, or an error in the stream and no orderly end; never 500, never a short answer.

    Field lessons 6, 8 and 46: an upstream's fault became an empty 200 with finish_reason stop, what could not
    be read was logged as passed, and each endpoint failed in a way of its own.
    """
    replies = iter(MALFORMED.values())
    async with guarded(tmp_path, lambda request: next(replies)) as guard:
        for name in MALFORMED:
            body = surface.ask() | surface.tool("f", "Looks.")
            told = await tell(guard, surface, body, stream=stream)
            assert told.status == 502 or (told.status == 200 and not told.ended), (name, told.raw)
            assert "engine" in told.error, (name, told.raw)
        records = await guard.records()

    assert [record.outcome for record in records] == [Outcome.FAILED] * len(MALFORMED)
    assert not any(record.error.startswith("bug") for record in records)


@each_surface(*TURNS)
async def test_a_tool_call_without_a_name_is_an_error(tmp_path: Path, surface: Surface, stream: bool) -> None:
    """No client could run it; none gets it.

    Field lessons 32 and 33: clients check id and name of every call, and streams broke off at nameless ones.
    """
    nameless = {"tool_calls": [{"index": 0, "id": "c", "function": {"arguments": '{"a": 1}'}}]}
    reply = stream_of({"reasoning": HARMLESS}, nameless)
    async with guarded(tmp_path, lambda request: reply) as guard:
        told = await tell(guard, surface, surface.ask() | surface.tool("f", "Looks."), stream=stream)
        record = (await guard.records())[0]

    assert told.status == 502 or not told.ended
    assert told.tools == ""
    assert "tool call" in told.error
    assert record.outcome is Outcome.FAILED


@each_surface(*TURNS)
async def test_arguments_before_the_name_wait_for_it(tmp_path: Path, surface: Surface, stream: bool) -> None:
    """Engines that mix reasoning into a call's pieces are understood; a missing id is made up for."""
    reply = stream_of(
        {"reasoning": HARMLESS},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"reasoning": "hm"},
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ":1}"}}]},
    )
    async with guarded(tmp_path, lambda request: reply) as guard:
        told = await tell(guard, surface, surface.ask() | surface.tool("f", "Looks."), stream=stream)

    assert (told.tools, told.ended) == ('f{"a":1}', True)


@each_surface()
async def test_usage_that_the_engine_does_not_give_is_counted(
    tmp_path: Path, surface: Surface, stream: bool
) -> None:
    """Tokens are counted by chunks and the prompt is estimated, so that no answer costs nothing.

    Field lesson 9: a request was billed at nothing.
    """
    reply = engine_reply("With a whetstone.", HARMLESS, usage=False)
    async with guarded(tmp_path, lambda request: reply) as guard:
        told = await tell(guard, surface, surface.ask(), stream=stream)
        record = (await guard.records())[0]

    assert told.text == "With a whetstone."
    assert record.completion_tokens > 3
    assert record.prompt_tokens > 100


async def test_an_engine_without_done_or_usage_or_streaming_is_understood(tmp_path: Path) -> None:
    """Engines differ in what they leave out; what the client gets does not."""
    message = {"role": "assistant", "content": "With a whetstone.", "reasoning": HARMLESS}
    whole = Reply.json(
        {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    )
    bare = engine_reply("With a whetstone.", HARMLESS, usage=False, done=False)
    replies = iter([whole, bare] * 2 * len(SURFACES))
    async with guarded(tmp_path, lambda request: next(replies)) as guard:
        for surface in SURFACES:
            for stream in (False, True):
                for _ in range(2):
                    told = await tell(guard, surface, surface.ask(), stream=stream)
                    assert (told.text, told.ended, told.error) == ("With a whetstone.", True, "")


async def test_a_chunk_that_comes_twice_ends_nothing_twice(tmp_path: Path) -> None:
    """Finish reason, usage and [DONE] that an engine repeats are told once."""
    events = chat_events("Hi.", HARMLESS)
    repeated = Reply.sse([*events[:-3], events[-3], events[-3], events[-2], events[-2], DONE, DONE])
    async with guarded(tmp_path, lambda request: repeated) as guard:
        told = await tell(guard, CHAT, CHAT.ask(stream_options={"include_usage": True}), stream=True)

    assert told.raw.count(b"[DONE]") == 1
    assert told.raw.count(b'"finish_reason":"stop"') == 1
    assert told.raw.count(b'"prompt_tokens"') == 1
