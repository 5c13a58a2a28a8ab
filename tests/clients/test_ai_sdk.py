"""The AI SDK with @ai-sdk/openai-compatible, which checks bodies and chunks against a schema.

Field lesson 32: clients check id and name of every call, in every chunk.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.clients.engines import (
    ENFORCE,
    KEY,
    KEYED,
    TIMER,
    breaking_off,
    embedding,
    stalling,
    using_a_tool,
)
from tests.clients.javascript import installed, seen
from tests.guarded import HARMLESS, REFUSING, engine_reply, guarded

pytestmark = [pytest.mark.client("@ai-sdk/openai-compatible"), installed]

STEP = {"tool": "whetstone", "minutes": 5}
CALL = [TIMER[0], TIMER[1], {"minutes": 5}]


async def saw(case: str, url: str, key: str = "none") -> Any:
    """What the client saw."""
    return await seen("ai_sdk.js", case, url, key)


@pytest.mark.conformance("chat/completions", "answer", "thinking")
async def test_a_text(tmp_path: Path) -> None:
    """A generated text comes with thinking, usage and finish reason, without a warning."""
    async with guarded(tmp_path) as guard:
        result = await saw("chat", guard.url)
        record = (await guard.records())[0]

    assert (result["text"], result["reasoningText"]) == ("With a whetstone.", HARMLESS)
    assert (result["finishReason"], result["warnings"]) == ("stop", [])
    assert result["usage"]["inputTokens"] == record.prompt_tokens


@pytest.mark.conformance("chat/completions", "stream", "usage in a stream", "thinking")
async def test_a_streamed_text(tmp_path: Path) -> None:
    """A streamed text comes with its thinking, and the usage at the end."""
    async with guarded(tmp_path) as guard:
        stream = await saw("stream", guard.url)
        record = (await guard.records())[0]

    assert (stream["text"], stream["reasoning"]) == ("With a whetstone.", HARMLESS)
    assert stream["last"] == "finish"
    assert stream["usage"]["inputTokens"] == record.prompt_tokens


@pytest.mark.conformance("chat/completions", "tools")
async def test_a_tool_loop(tmp_path: Path) -> None:
    """A call is validated, run, and its result answered."""
    async with guarded(tmp_path, using_a_tool) as guard:
        loop = await saw("tools", guard.url)

    assert loop == {"text": "The timer runs.", "calls": [CALL]}


@pytest.mark.conformance("chat/completions", "tools in a stream")
async def test_a_streamed_tool_loop(tmp_path: Path) -> None:
    """The first chunk of a call has id and name, as the schema wants; thinking sent back is dropped."""
    async with guarded(tmp_path, using_a_tool) as guard:
        loop = await saw("streamedTools", guard.url)
        sent = guard.calls[1].json["messages"]

    assert loop == {"text": "The timer runs.", "calls": [CALL], "results": ["5 set"]}
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "tool"]
    assert "Sharpening" not in str(sent[2])


@pytest.mark.conformance("chat/completions", "structured output")
async def test_an_object(tmp_path: Path) -> None:
    """Output.object gives the object, streamed and not; the engine gets the schema."""
    reply = engine_reply('{"tool": "whetstone", "minutes": 5}')
    async with guarded(tmp_path, lambda request: reply) as guard:
        outputs = await saw("structured", guard.url)
        forms = [call.json["response_format"]["type"] for call in guard.calls]

    assert outputs == {"whole": STEP, "streamed": STEP}
    assert forms == ["json_schema", "json_schema"]


@pytest.mark.conformance("chat/completions", "refusal")
async def test_a_refusal_is_no_object(tmp_path: Path) -> None:
    """Where the guard refuses, the SDK says that there is no output: it reads no refusal field."""
    reply = engine_reply('{"tool": "rope", "minutes": 1}', REFUSING)
    async with guarded(tmp_path, lambda request: reply, **ENFORCE) as guard:
        error = await saw("unstructured", guard.url)

    assert error["kind"] in {"AI_NoObjectGeneratedError", "AI_NoOutputGeneratedError"}


@pytest.mark.conformance("chat/completions", "errors")
async def test_errors_are_the_sdks_own(tmp_path: Path) -> None:
    """Status and message of a bad field, an unknown model and a wrong key reach the application."""
    async with guarded(tmp_path, **KEYED) as guard:
        errors = await saw("errors", guard.url, KEY)

    assert {errors[name]["kind"] for name in ("field", "model", "key")} == {"AI_APICallError"}
    assert [errors[name]["status"] for name in ("field", "model", "key")] == [400, 404, 401]
    assert "temperature" in errors["field"]["message"]
    assert "error" in errors["streamed"]


@pytest.mark.conformance("chat/completions", "broken stream")
async def test_a_broken_stream_is_an_error(tmp_path: Path) -> None:
    """A stream that breaks off has an error among its parts."""
    async with guarded(tmp_path, breaking_off) as guard:
        stream = await saw("brokenStream", guard.url)

    assert stream["errors"] == 1


@pytest.mark.conformance("chat/completions", "abort")
async def test_an_abort_stops_the_engine(tmp_path: Path) -> None:
    """An abort signal ends the stream and drops the engine's connection."""
    async with guarded(tmp_path, stalling) as guard:
        last = await saw("abort", guard.url)
        await asyncio.wait_for(guard.calls[0].disconnected.wait(), 10)

    assert last == "abort"


@pytest.mark.conformance("completions", "answer", "stream")
async def test_completions(tmp_path: Path) -> None:
    """The completion model answers a prompt, whole and streamed."""
    async with guarded(tmp_path) as guard:
        completions = await saw("completions", guard.url)

    assert completions == {"text": "With a whetstone.", "streamed": "With a whetstone."}


@pytest.mark.conformance("embeddings", "vectors")
async def test_embeddings(tmp_path: Path) -> None:
    """There is a vector for each text."""
    async with guarded(tmp_path) as guard:
        guard.engine.otherwise(embedding)
        vectors = await saw("embeddings", guard.url)

    assert vectors == [[0.5, 0.0], [0.5, 1.0]]
