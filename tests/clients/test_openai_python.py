"""The official openai-python client in front of the guard, as an application uses it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.guarded import HARMLESS, Guarded, engine_reply, guarded

HELLO: Any = [{"role": "user", "content": "How do I sharpen a knife?"}]


class Step(BaseModel):
    """What the structured test parses."""

    tool: str
    minutes: int


def _client(guard: Guarded) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=guard.url, api_key="none", max_retries=0)


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


async def test_tools(tmp_path: Path) -> None:
    """A tool call comes back typed, streamed and not."""
    reply = engine_reply("", HARMLESS, tool_calls=[("c1", "timer", '{"minutes": 5}')], finish="tool_calls")
    tools = [openai.pydantic_function_tool(Step, name="timer")]
    async with guarded(tmp_path, lambda request: reply) as guard, _client(guard) as client:
        completion = await client.chat.completions.create(model="default", messages=HELLO, tools=tools)
        async with client.chat.completions.stream(model="default", messages=HELLO) as stream:
            final = await stream.get_final_completion()

    calls = completion.choices[0].message.tool_calls or []
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [  # type: ignore[union-attr]
        ("c1", "timer", '{"minutes": 5}')
    ]
    assert final.choices[0].message.tool_calls is not None
    assert final.choices[0].finish_reason == "tool_calls"


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


async def test_parse_of_a_refusal(tmp_path: Path) -> None:
    """Where the guard refuses, parse gives no object and the refusal text."""
    reply = engine_reply('{"tool": "x", "minutes": 1}', "")
    enforce: dict[str, Any] = {"enforcement": {"mode": "enforce"}}
    async with guarded(tmp_path, lambda request: reply, **enforce) as guard, _client(guard) as client:
        completion = await client.chat.completions.parse(
            model="default",
            messages=HELLO,
            response_format=Step,
        )

    assert completion.choices[0].message.parsed is None
    assert completion.choices[0].message.refusal


async def test_errors_are_the_sdks_own(tmp_path: Path) -> None:
    """A bad request raises the SDK's exception with the field; an unknown model is its NotFoundError."""
    async with guarded(tmp_path) as guard, _client(guard) as client:
        with pytest.raises(openai.BadRequestError) as bad:
            await client.chat.completions.create(model="default", messages=HELLO, temperature=9)
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="nope", messages=HELLO)

    assert bad.value.param == "temperature"


async def test_models(tmp_path: Path) -> None:
    """models.list and models.retrieve know the default model."""
    async with guarded(tmp_path) as guard, _client(guard) as client:
        listed = [model.id async for model in client.models.list()]
        one = await client.models.retrieve("default")

    assert listed == ["default", "scripted"]
    assert one.id == "default"
