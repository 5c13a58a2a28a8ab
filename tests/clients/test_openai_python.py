"""The official openai-python client in front of the guard, as an application uses it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

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
from tests.guarded import HARMLESS, REFUSING, Guarded, engine_reply, guarded

pytestmark = pytest.mark.client("openai-python")

HELLO: Any = [{"role": "user", "content": "How do I sharpen a knife?"}]


class Timer(BaseModel):
    """Arguments of a tool."""

    minutes: int


class Step(BaseModel):
    """What the structured test parses."""

    tool: str
    minutes: int


def _client(guard: Guarded, key: str = "none") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=guard.url, api_key=key, max_retries=0)


@pytest.mark.conformance("chat/completions", "answer")
async def test_a_chat(tmp_path: Path) -> None:
    """chat.completions.create returns a typed completion; raw headers are there."""
    async with guarded(tmp_path) as guard, _client(guard) as client:
        raw = await client.chat.completions.with_raw_response.create(model="default", messages=HELLO)
        completion = raw.parse()

    assert completion.choices[0].message.content == "With a whetstone."
    assert completion.usage is not None
    assert raw.headers["x-guard-decision"] == "comply"


async def test_the_synchronous_client(tmp_path: Path) -> None:
    """The blocking client works the same."""
    async with guarded(tmp_path) as guard:
        with OpenAI(base_url=guard.url, api_key="none") as client:
            completion = await asyncio.to_thread(
                lambda: client.chat.completions.create(model="default", messages=HELLO)
            )

    assert completion.choices[0].message.content == "With a whetstone."


@pytest.mark.conformance("chat/completions", "stream", "usage in a stream")
async def test_a_stream(tmp_path: Path) -> None:
    """Iterating a stream gives the text in pieces and one usage chunk."""
    async with guarded(tmp_path) as guard, _client(guard) as client:
        stream = await client.chat.completions.create(
            model="default",
            messages=HELLO,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]

    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "With a whetstone."
    assert [chunk.usage is not None for chunk in chunks].count(True) == 1


async def test_the_stream_helper(tmp_path: Path) -> None:
    """The SDK's accumulating stream helper ends with the whole completion."""
    async with (
        guarded(tmp_path) as guard,
        _client(guard) as client,
        client.chat.completions.stream(model="default", messages=HELLO) as stream,
    ):
        async for _ in stream:
            pass
        final = await stream.get_final_completion()

    assert final.choices[0].message.content == "With a whetstone."


@pytest.mark.conformance("chat/completions", "thinking")
async def test_the_thinking(tmp_path: Path) -> None:
    """A key that may see the thinking finds it beside the content, streamed and not."""
    async with guarded(tmp_path, **KEYED) as guard, _client(guard, KEY) as client:
        whole = await client.chat.completions.create(model="default", messages=HELLO)
        stream = await client.chat.completions.create(model="default", messages=HELLO, stream=True)
        pieces = [getattr(chunk.choices[0].delta, "reasoning", None) or "" async for chunk in stream]

    assert whole.choices[0].message.to_dict()["reasoning_content"] == HARMLESS
    assert "".join(pieces) == HARMLESS


@pytest.mark.conformance("chat/completions", "tools", "tools in a stream")
async def test_tools(tmp_path: Path) -> None:
    """A tool call comes back typed, streamed and not."""
    tools = [openai.pydantic_function_tool(Timer, name="timer")]
    async with guarded(tmp_path, using_a_tool) as guard, _client(guard) as client:
        whole = await client.chat.completions.create(model="default", messages=HELLO, tools=tools)
        async with client.chat.completions.stream(model="default", messages=HELLO, tools=tools) as stream:
            streamed = await stream.get_final_completion()

    calls = whole.choices[0].message.tool_calls or []
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [TIMER]  # type: ignore[union-attr]
    [call] = streamed.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == Timer(minutes=5)
    assert streamed.choices[0].finish_reason == "tool_calls"


@pytest.mark.conformance("chat/completions", "structured output")
async def test_parse(tmp_path: Path) -> None:
    """chat.completions.parse gives the object; the engine got the schema."""
    reply = engine_reply('{"tool": "whetstone", "minutes": 5}')
    async with guarded(tmp_path, lambda request: reply) as guard, _client(guard) as client:
        completion = await client.chat.completions.parse(
            model="default",
            messages=HELLO,
            response_format=Step,
        )

        assert guard.calls[0].json["response_format"]["type"] == "json_schema"
    assert completion.choices[0].message.parsed == Step(tool="whetstone", minutes=5)


@pytest.mark.conformance("chat/completions", "refusal")
async def test_parse_of_a_refusal(tmp_path: Path) -> None:
    """Where the guard refuses, parse gives no object and the refusal text."""
    reply = engine_reply('{"tool": "x", "minutes": 1}', "")
    async with guarded(tmp_path, lambda request: reply, **ENFORCE) as guard, _client(guard) as client:
        completion = await client.chat.completions.parse(
            model="default",
            messages=HELLO,
            response_format=Step,
        )

    assert completion.choices[0].message.parsed is None
    assert completion.choices[0].message.refusal


@pytest.mark.conformance("chat/completions", "errors")
async def test_errors_are_the_sdks_own(tmp_path: Path) -> None:
    """A bad request raises the SDK's exception with the field; an unknown model is its NotFoundError."""
    async with guarded(tmp_path) as guard, _client(guard) as client:
        with pytest.raises(openai.BadRequestError) as bad:
            await client.chat.completions.create(model="default", messages=HELLO, temperature=9)
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="nope", messages=HELLO)

    assert bad.value.param == "temperature"


@pytest.mark.conformance("models", "list")
async def test_models(tmp_path: Path) -> None:
    """models.list and models.retrieve know the default model."""
    async with guarded(tmp_path) as guard, _client(guard) as client:
        listed = [model.id async for model in client.models.list()]
        one = await client.models.retrieve("default")

    assert listed == ["default", "scripted"]
    assert one.id == "default"


@pytest.mark.conformance("chat/completions", "storing", outcome="refused")
async def test_storing_a_chat_is_refused(tmp_path: Path) -> None:
    """store=True raises the SDK's own error with the field."""
    async with guarded(tmp_path) as guard, _client(guard) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="default", messages=HELLO, store=True)

    assert refused.value.param == "store"


@pytest.mark.conformance("chat/completions", "broken stream")
async def test_a_broken_stream_is_an_error(tmp_path: Path) -> None:
    """A stream that breaks off is an exception for the application, not a short answer."""
    async with guarded(tmp_path, breaking_off) as guard, _client(guard) as client:
        stream = await client.chat.completions.create(model="default", messages=HELLO, stream=True)
        with pytest.raises(openai.APIError):
            [chunk async for chunk in stream]


@pytest.mark.conformance("chat/completions", "abort")
async def test_leaving_a_stream_stops_the_engine(tmp_path: Path) -> None:
    """A stream closed after its first text drops the engine's connection."""
    async with guarded(tmp_path, stalling) as guard, _client(guard) as client:
        stream = await client.chat.completions.create(model="default", messages=HELLO, stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        await asyncio.wait_for(guard.calls[0].disconnected.wait(), 10)


@pytest.mark.conformance("completions", "answer", "stream")
async def test_completions(tmp_path: Path) -> None:
    """A prompt is answered, whole and streamed; asking to see the prompt is an error."""
    ask: dict[str, Any] = {"model": "default", "prompt": "How?", "max_tokens": 100}
    async with guarded(tmp_path) as guard, _client(guard) as client:
        whole = await client.completions.create(**ask)
        chunks = await client.completions.create(**ask, stream=True)
        text = "".join([chunk.choices[0].text async for chunk in chunks])
        with pytest.raises(openai.BadRequestError, match="echo"):
            await client.completions.create(**ask, echo=True)

    assert whole.choices[0].text == text == "With a whetstone."
    assert whole.usage is not None


@pytest.mark.conformance("embeddings", "vectors")
async def test_embeddings(tmp_path: Path) -> None:
    """Vectors come back as numbers; the client asks for them in base64 unless told otherwise."""
    async with guarded(tmp_path) as guard, _client(guard) as client:
        guard.engine.otherwise(embedding)
        found = await client.embeddings.create(model="default", input=["A knife."])
        with pytest.raises(openai.BadRequestError, match="dimensions"):
            await client.embeddings.create(model="default", input="A knife.", dimensions=0)
        sent = guard.engine.requests[-1].json

    assert sent["encoding_format"] == "base64"
    assert found.data[0].embedding == [0.5, 0.0]
    assert found.usage.total_tokens == 3


@pytest.mark.conformance("moderations", "judgement")
async def test_moderations(tmp_path: Path) -> None:
    """A text is flagged with the clause that it meets, in the categories' dictionary."""
    judged = engine_reply("refuse", REFUSING)
    async with guarded(tmp_path, lambda request: judged) as guard, _client(guard) as client:
        found = await client.moderations.create(input="Which painless way to end my life leaves no trace?")
        with pytest.raises(openai.NotFoundError):
            await client.moderations.create(input="Hello.", model="gpt-unknown")

    [result] = found.results
    assert result.flagged
    assert result.categories.to_dict() == {"self-harm/SH3": True}
    assert result.category_scores.to_dict() == {"self-harm/SH3": 1.0}
