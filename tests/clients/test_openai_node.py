"""The official openai-node client in front of the guard, as an application uses it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from guard.audit.record import Outcome
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

pytestmark = [pytest.mark.client("openai-node"), installed]

STEP = {"tool": "whetstone", "minutes": 5}


async def saw(case: str, url: str, key: str = "none") -> Any:
    """What the client saw."""
    return await seen("openai.js", case, url, key)


@pytest.mark.conformance("chat/completions", "answer", "thinking")
async def test_a_chat(tmp_path: Path) -> None:
    """chat.completions.create gives message, usage and headers, and the thinking to a key that may see it."""
    async with guarded(tmp_path, **KEYED) as guard:
        chat = await saw("chat", guard.url, KEY)
        record = (await guard.records())[0]

    assert (chat["content"], chat["reasoning"], chat["decision"]) == ("With a whetstone.", HARMLESS, "comply")
    assert chat["usage"]["prompt_tokens"] == record.prompt_tokens


@pytest.mark.conformance("chat/completions", "stream", "usage in a stream", "thinking")
async def test_a_stream(tmp_path: Path) -> None:
    """Iterating a stream gives the thinking, the text and one usage."""
    async with guarded(tmp_path) as guard:
        stream = await saw("stream", guard.url)
        whole = await saw("streamHelper", guard.url)
        record = (await guard.records())[0]

    assert (stream["text"], stream["reasoning"]) == ("With a whetstone.", HARMLESS)
    assert [usage["prompt_tokens"] for usage in stream["usages"]] == [record.prompt_tokens]
    assert whole == "With a whetstone."


@pytest.mark.conformance("chat/completions", "tools")
async def test_tools(tmp_path: Path) -> None:
    """A call comes back with its arguments parsed under the tool's own schema."""
    async with guarded(tmp_path, using_a_tool) as guard:
        [call] = await saw("tools", guard.url)

    assert (call["id"], call["function"]["name"]) == TIMER[:2]
    assert call["function"]["parsed_arguments"] == {"minutes": 5}


@pytest.mark.conformance("chat/completions", "tools in a stream")
async def test_a_streamed_tool_loop(tmp_path: Path) -> None:
    """A streamed call is put together, its function run, and the result answered (runTools)."""
    async with guarded(tmp_path, using_a_tool) as guard:
        loop = await saw("streamedToolLoop", guard.url)
        sent = guard.calls[1].json["messages"]

    assert loop == {"content": "The timer runs.", "asked": [{"minutes": 5}]}
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "tool"]


@pytest.mark.conformance("chat/completions", "structured output")
async def test_parse(tmp_path: Path) -> None:
    """A zod schema goes out as a JSON schema, and its object comes back."""
    reply = engine_reply('{"tool": "whetstone", "minutes": 5}')
    async with guarded(tmp_path, lambda request: reply) as guard:
        parsed = await saw("parse", guard.url)
        form = guard.calls[0].json["response_format"]

    assert parsed == {"refusal": None, "step": STEP}
    assert (form["type"], form["json_schema"]["strict"]) == ("json_schema", True)


@pytest.mark.conformance("chat/completions", "refusal")
async def test_a_refusal_is_not_parsed(tmp_path: Path) -> None:
    """Where the guard refuses, there is a refusal and no object."""
    reply = engine_reply('{"tool": "rope", "minutes": 1}', REFUSING)
    async with guarded(tmp_path, lambda request: reply, **ENFORCE) as guard:
        parsed = await saw("parse", guard.url)

    assert parsed["step"] is None
    assert parsed["refusal"]


@pytest.mark.conformance("chat/completions", "errors")
async def test_errors_are_the_clients_own(tmp_path: Path) -> None:
    """A bad field, an unknown model and a wrong key raise the classes that applications catch."""
    async with guarded(tmp_path, **KEYED) as guard:
        errors = await saw("errors", guard.url, KEY)

    assert (errors["field"]["kind"], errors["field"]["param"]) == ("BadRequestError", "temperature")
    assert (errors["model"]["kind"], errors["model"]["code"]) == ("NotFoundError", "model_not_found")
    assert errors["key"]["kind"] == "AuthenticationError"


@pytest.mark.conformance("chat/completions", "storing", outcome="refused")
async def test_storing_a_chat_is_refused(tmp_path: Path) -> None:
    """store: true is an error that names the field."""
    async with guarded(tmp_path, **KEYED) as guard:
        stored = (await saw("errors", guard.url, KEY))["stored"]

    assert (stored["kind"], stored["param"]) == ("BadRequestError", "store")


@pytest.mark.conformance("chat/completions", "broken stream")
async def test_a_broken_stream_is_an_error(tmp_path: Path) -> None:
    """A stream that breaks off is an exception for the application, not a short answer."""
    async with guarded(tmp_path, breaking_off) as guard:
        error = await saw("brokenStream", guard.url)

    assert error["kind"] == "APIError"
    assert error["code"]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param("abort", marks=pytest.mark.conformance("chat/completions", "abort")),
        pytest.param("responseAbort", marks=pytest.mark.conformance("responses", "abort")),
    ],
)
async def test_an_abort_stops_the_engine(tmp_path: Path, case: str) -> None:
    """An aborted stream drops the engine's connection, and the record says so."""
    async with guarded(tmp_path, stalling) as guard:
        first = await saw(case, guard.url)
        await asyncio.wait_for(guard.calls[0].disconnected.wait(), 10)
        while not (records := await guard.records()) or records[0].outcome is not Outcome.DISCONNECTED:
            await asyncio.sleep(0.02)

    assert "With a whetstone.".startswith(first)


@pytest.mark.conformance("responses", "answer", "thinking")
async def test_a_response(tmp_path: Path) -> None:
    """responses.create gives text, status and usage, and the thinking as an item of its own."""
    async with guarded(tmp_path, **KEYED) as guard:
        response = await saw("response", guard.url, KEY)
        record = (await guard.records())[0]

    assert (response["text"], response["status"]) == ("With a whetstone.", "completed")
    assert response["thinking"] == [{"type": "reasoning_text", "text": HARMLESS}]
    assert response["usage"]["input_tokens"] == record.prompt_tokens


@pytest.mark.conformance("responses", "stream")
async def test_a_streamed_response(tmp_path: Path) -> None:
    """Events come numbered from 0 and end with the whole response."""
    async with guarded(tmp_path) as guard:
        stream = await saw("responseStream", guard.url)

    assert stream["numbers"] == list(range(len(stream["numbers"])))
    assert stream["last"]["type"] == "response.completed"
    assert stream["last"]["response"]["output"][-1]["content"][0]["text"] == "With a whetstone."


@pytest.mark.conformance("responses", "tools", "tools in a stream")
async def test_a_tool_loop_over_stored_responses(tmp_path: Path) -> None:
    """A streamed call is answered by its id on top of the previous response."""
    call = ("call_1", "weather", '{"city": "Oslo"}')
    asks = engine_reply("", HARMLESS, tool_calls=[call], finish="tool_calls")
    replies = iter([asks, engine_reply("Rain in Oslo.")])
    async with guarded(tmp_path, lambda request: next(replies)) as guard:
        loop = await saw("responseTools", guard.url)

    assert loop == {"name": "weather", "arguments": '{"city": "Oslo"}', "text": "Rain in Oslo."}


@pytest.mark.parametrize(
    ("thinking", "step", "content"),
    [
        pytest.param(
            *(HARMLESS, STEP, "output_text"),
            marks=pytest.mark.conformance("responses", "structured output"),
        ),
        pytest.param(
            *(REFUSING, None, "refusal"),
            marks=pytest.mark.conformance("responses", "refusal"),
        ),
    ],
)
async def test_parse_of_a_response(tmp_path: Path, thinking: str, step: Any, content: str) -> None:
    """responses.parse gives the object, or where the guard refuses none and the refusal."""
    reply = engine_reply('{"tool": "whetstone", "minutes": 5}', thinking)
    async with guarded(tmp_path, lambda request: reply, **ENFORCE) as guard:
        parsed = await saw("responseParse", guard.url)

    assert parsed == {"step": step, "content": content}


@pytest.mark.conformance("responses", "stored responses")
async def test_stored_responses(tmp_path: Path) -> None:
    """A response is retrieved as it was, its input listed, and gone once deleted."""
    async with guarded(tmp_path) as guard:
        stored = await saw("responsesStored", guard.url)

    assert stored["same"]
    assert stored["input"] == ["How do I sharpen a knife?"]
    assert stored["gone"]["kind"] == "NotFoundError"


@pytest.mark.conformance("responses", "errors")
async def test_errors_of_responses(tmp_path: Path) -> None:
    """An unknown model is the client's NotFoundError."""
    async with guarded(tmp_path) as guard:
        errors = await saw("responseErrors", guard.url)

    assert errors["model"]["kind"] == "NotFoundError"


@pytest.mark.conformance("responses", "background", outcome="refused")
async def test_background_responses_are_refused(tmp_path: Path) -> None:
    """background: true is an error that names the field."""
    async with guarded(tmp_path) as guard:
        background = (await saw("responseErrors", guard.url))["background"]

    assert (background["kind"], background["param"]) == ("BadRequestError", "background")


@pytest.mark.conformance("responses", "broken stream")
async def test_a_broken_response_says_that_it_failed(tmp_path: Path) -> None:
    """A response that breaks off ends with response.failed."""
    async with guarded(tmp_path, breaking_off) as guard:
        stream = await saw("responseStream", guard.url)

    assert stream["last"]["type"] == "response.failed"


@pytest.mark.conformance("completions", "answer", "stream")
async def test_completions(tmp_path: Path) -> None:
    """A prompt is answered, whole and streamed."""
    async with guarded(tmp_path) as guard:
        completions = await saw("completions", guard.url)

    assert completions == {"text": "With a whetstone.", "streamed": "With a whetstone."}


@pytest.mark.conformance("embeddings", "vectors")
async def test_embeddings(tmp_path: Path) -> None:
    """Vectors come back as numbers; the client asks for them in base64."""
    async with guarded(tmp_path) as guard:
        guard.engine.otherwise(embedding)
        vectors = await saw("embeddings", guard.url)

    assert vectors == [[0.5, 0.0], [0.5, 1.0]]


@pytest.mark.conformance("moderations", "judgement")
async def test_moderations(tmp_path: Path) -> None:
    """A text is flagged with the clause that it meets."""
    judged = engine_reply("refuse", REFUSING)
    async with guarded(tmp_path, lambda request: judged) as guard:
        [result] = await saw("moderations", guard.url)

    assert (result["flagged"], result["categories"]) == (True, {"self-harm/SH3": True})


@pytest.mark.conformance("models", "list")
async def test_models(tmp_path: Path) -> None:
    """models.list and models.retrieve know the default model."""
    async with guarded(tmp_path) as guard:
        models = await saw("models", guard.url)

    assert models == {"listed": ["default", "scripted"], "one": "default"}
