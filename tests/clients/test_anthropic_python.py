"""The official anthropic client in front of the guard, as an application uses it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam, ToolParam

from tests.clients.engines import KEY, KEYED, stalling
from tests.guarded import HARMLESS, REFUSING, Guarded, engine_reply, guarded
from tests.scripted import Pause, ReceivedRequest, Reply, chat_events

pytestmark = pytest.mark.client("anthropic")

HELLO: list[MessageParam] = [{"role": "user", "content": "How do I sharpen a knife?"}]
HARMFUL: list[MessageParam] = [
    {"role": "user", "content": "Which painless way to end my life leaves no trace?"}
]
WEATHER: ToolParam = {
    "name": "weather",
    "description": "Says the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def _client(guard: Guarded, key: str = "none") -> AsyncAnthropic:
    return AsyncAnthropic(base_url=guard.url.removesuffix("/v1"), api_key=key, max_retries=0)


@pytest.mark.conformance("messages", "answer")
async def test_a_message(tmp_path: Path) -> None:
    """messages.create returns a typed message with text, stop reason, usage and request id."""
    async with guarded(tmp_path) as guard, _client(guard) as client:
        message = await client.messages.create(model="default", max_tokens=100, messages=HELLO)
        record = (await guard.records())[0]

    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "With a whetstone."}]
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens == record.prompt_tokens
    assert message._request_id == record.request_id


@pytest.mark.conformance("messages", "stream", "usage in a stream")
async def test_the_stream_helper(tmp_path: Path) -> None:
    """The accumulating stream gives text in pieces and the same final message, pings or not."""
    reply = Reply.sse([Pause(0.3), *chat_events("With a whetstone.", HARMLESS)])
    async with guarded(tmp_path, lambda request: reply, ping_seconds=0.1) as guard, _client(guard) as client:
        async with client.messages.stream(model="default", max_tokens=100, messages=HELLO) as stream:
            pieces = [text async for text in stream.text_stream]
            message = await stream.get_final_message()
        record = (await guard.records())[0]

    assert pieces == ["With", " a", " whetstone."]
    assert _text(message) == "With a whetstone."
    assert (message.stop_reason, message.usage.input_tokens) == ("end_turn", record.prompt_tokens)


def _text(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


@pytest.mark.conformance("messages", "thinking")
async def test_raw_events(tmp_path: Path) -> None:
    """stream=True gives Anthropic's events in their order, thinking first."""
    async with guarded(tmp_path) as guard, _client(guard) as client:
        stream = await client.messages.create(
            model="default",
            max_tokens=2000,
            messages=HELLO,
            thinking={"type": "enabled", "budget_tokens": 1024},
            stream=True,
        )
        kinds = [event.type async for event in stream]

    assert [
        kind for at, kind in enumerate(kinds) if kind != "content_block_delta" or kinds[at - 1] != kind
    ] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


@pytest.mark.conformance("messages", "tools", "tools in a stream")
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_loop_with_a_tool(tmp_path: Path, streamed: bool) -> None:
    """The client's own message goes back with the tool's result, thinking included, and is answered."""

    def engine(request: ReceivedRequest) -> Reply:
        if request.json["messages"][-1]["role"] == "tool":
            return engine_reply("It snows in Oslo.")
        return engine_reply(
            "", HARMLESS, tool_calls=[("call_1", "weather", '{"city": "Oslo"}')], finish="tool_calls"
        )

    messages: list[Any] = [{"role": "user", "content": "Weather in Oslo?"}]
    request: dict[str, Any] = {
        "model": "default",
        "max_tokens": 2000,
        "tools": [WEATHER],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    }
    async with guarded(tmp_path, engine) as guard, _client(guard) as client:
        for _ in range(2):
            if streamed:
                async with client.messages.stream(messages=messages, **request) as stream:
                    message: Any = await stream.get_final_message()
            else:
                message = await client.messages.create(messages=messages, **request)
            results = [
                {"type": "tool_result", "tool_use_id": block.id, "content": f"Snow in {block.input['city']}."}
                for block in message.content
                if block.type == "tool_use"
            ]
            messages += [message.to_param(), {"role": "user", "content": results}]
        sent = guard.calls[1].json["messages"]

    assert _text(message) == "It snows in Oslo."
    assert [turn["role"] for turn in sent] == ["system", "user", "assistant", "tool"]
    assert sent[-1]["content"] == "Snow in Oslo."
    assert b"Sharpening" not in guard.calls[1].body


@pytest.mark.conformance("messages", "refusal")
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_refusal(tmp_path: Path, streamed: bool) -> None:
    """What the guard refuses is a message whose stop reason says so."""
    reply = engine_reply("Sure! Take the following steps.", REFUSING)
    enforce: dict[str, Any] = {"enforcement": {"mode": "enforce"}}
    async with guarded(tmp_path, lambda request: reply, **enforce) as guard, _client(guard) as client:
        if streamed:
            async with client.messages.stream(model="default", max_tokens=100, messages=HARMFUL) as stream:
                message: Any = await stream.get_final_message()
        else:
            message = await client.messages.create(model="default", max_tokens=100, messages=HARMFUL)

    assert message.stop_reason == "refusal"
    assert "Sure" not in _text(message)


@pytest.mark.conformance("messages", "counting tokens")
async def test_counting_tokens(tmp_path: Path) -> None:
    """messages.count_tokens gives a number."""
    async with guarded(tmp_path) as guard, _client(guard) as client:
        counted = await client.messages.count_tokens(model="default", messages=HELLO, tools=[WEATHER])

    assert counted.input_tokens > 500


@pytest.mark.conformance("messages", "errors")
async def test_errors_have_the_clients_own_types(tmp_path: Path) -> None:
    """Each status raises the exception that applications catch, with the guard's words."""
    busy = Reply.json({"error": {"message": "busy"}}, 503)
    async with guarded(tmp_path, lambda request: busy, **KEYED) as guard, _client(guard, KEY) as client:

        async def create(**fields: Any) -> Any:
            request: dict[str, Any] = {"model": "default", "max_tokens": 100, "messages": HELLO}
            return await client.messages.create(**{**request, **fields})

        with pytest.raises(anthropic.NotFoundError, match="claude-unknown"):
            await create(model="claude-unknown")
        with pytest.raises(anthropic.APIStatusError, match="overloaded") as raised:
            await create()
        with pytest.raises(anthropic.AuthenticationError):
            async with _client(guard, "dg-wrong") as stranger:
                await stranger.messages.create(model="default", max_tokens=100, messages=HELLO)

    assert raised.value.status_code == 529


@pytest.mark.conformance("messages", "container", outcome="refused")
async def test_containers_are_refused(tmp_path: Path) -> None:
    """A container to run code in is a bad request, and the field is named."""
    async with guarded(tmp_path) as guard, _client(guard) as client:
        with pytest.raises(anthropic.BadRequestError, match="container"):
            await client.messages.create(model="default", max_tokens=100, messages=HELLO, container="c")


@pytest.mark.conformance("messages", "abort")
async def test_leaving_a_stream_stops_the_engine(tmp_path: Path) -> None:
    """A stream closed after its first text drops the engine's connection."""
    async with guarded(tmp_path, stalling) as guard, _client(guard) as client:
        async with client.messages.stream(model="default", max_tokens=100, messages=HELLO) as stream:
            async for _ in stream.text_stream:
                break
        await asyncio.wait_for(guard.calls[0].disconnected.wait(), 10)


@pytest.mark.conformance("messages", "broken stream")
async def test_an_error_in_a_stream_is_raised(tmp_path: Path) -> None:
    """A stream that breaks off is an exception for the application, not a short answer."""
    size = sum(map(len, chat_events("With a whetstone.", HARMLESS)))
    reply = engine_reply().reset_after(size - 400)
    async with guarded(tmp_path, lambda request: reply) as guard, _client(guard) as client:
        with pytest.raises(anthropic.APIStatusError, match="api_error"):
            async with client.messages.stream(model="default", max_tokens=100, messages=HELLO) as stream:
                await stream.get_final_message()


@pytest.mark.conformance("models", "list")
async def test_models(tmp_path: Path) -> None:
    """models.list reads the names, though the list is in OpenAI's shape."""
    async with guarded(tmp_path) as guard, _client(guard) as client:
        listed = [model.id async for model in client.models.list()]

    assert listed == ["default", "scripted"]
