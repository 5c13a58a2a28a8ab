"""The official openai-python client's Responses API in front of the guard."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI, pydantic_function_tool
from openai.types.responses import ResponseFunctionToolCall, ResponseInputParam
from openai.types.responses.function_tool_param import FunctionToolParam
from pydantic import BaseModel

from tests.clients.engines import KEY, KEYED, stalling
from tests.guarded import HARMLESS, REFUSING, Guarded, engine_reply, guarded
from tests.scripted import CLOSE, Reply, chat_events

pytestmark = pytest.mark.client("openai-python")

QUESTION = "How do I sharpen a knife?"
CALL = ("call_1", "weather", '{"city": "Oslo"}')
WEATHER = FunctionToolParam(
    type="function",
    name="weather",
    description="Today's weather.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}},
    strict=False,
)


class Step(BaseModel):
    """What the structured tests parse."""

    tool: str
    minutes: int


class City(BaseModel):
    """Arguments of a tool."""

    city: str


def _client(guard: Guarded, key: str = "none") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=guard.url, api_key=key, max_retries=0)


@pytest.mark.conformance("responses", "answer")
async def test_create(tmp_path: Path) -> None:
    """responses.create returns a typed response with its text and usage."""
    async with guarded(tmp_path) as guard, _client(guard) as client:
        raw = await client.responses.with_raw_response.create(model="default", input=QUESTION)
        response = raw.parse()

    assert response.output_text == "With a whetstone."
    assert response.status == "completed"
    assert response.usage is not None
    assert response.usage.output_tokens_details.reasoning_tokens == 0
    assert raw.headers["x-guard-decision"] == "comply"


async def test_the_synchronous_client(tmp_path: Path) -> None:
    """The blocking client works the same."""
    async with guarded(tmp_path) as guard:
        with OpenAI(base_url=guard.url, api_key="none") as client:
            response = await asyncio.to_thread(client.responses.create, model="default", input=QUESTION)

    assert response.output_text == "With a whetstone."


@pytest.mark.conformance("responses", "stream")
async def test_a_raw_stream(tmp_path: Path) -> None:
    """stream=True gives typed events in order, numbered from 0."""
    async with guarded(tmp_path) as guard, _client(guard) as client:
        stream = await client.responses.create(model="default", input=QUESTION, stream=True)
        events = [event async for event in stream]

    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == "With a whetstone."


async def test_the_stream_helper(tmp_path: Path) -> None:
    """The accumulating helper follows every event and ends with the whole response."""
    async with (
        guarded(tmp_path) as guard,
        _client(guard) as client,
        client.responses.stream(model="default", input=QUESTION) as stream,
    ):
        seen = [event.snapshot async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()

    assert seen[-1] == final.output_text == "With a whetstone."


@pytest.mark.conformance("responses", "thinking")
async def test_the_thinking(tmp_path: Path) -> None:
    """The thinking is an item of its own before the message, for a key that may see it."""
    async with guarded(tmp_path, **KEYED) as guard, _client(guard, KEY) as client:
        response = await client.responses.create(
            model="default", input=QUESTION, reasoning={"effort": "low", "summary": "auto"}
        )

    item = response.output[0]
    assert item.type == "reasoning"
    assert [part.text for part in item.summary] == [HARMLESS]


@pytest.mark.conformance("responses", "structured output")
async def test_parse(tmp_path: Path) -> None:
    """A pydantic model goes out as a schema, and the answer comes back as an instance, streamed too."""
    reply = engine_reply('{"tool": "whetstone", "minutes": 10}')
    async with guarded(tmp_path, lambda r: reply) as guard, _client(guard) as client:
        parsed = await client.responses.parse(model="default", input=QUESTION, text_format=Step)
        async with client.responses.stream(model="default", input=QUESTION, text_format=Step) as stream:
            streamed = await stream.get_final_response()
        sent = guard.calls[0].json["response_format"]["json_schema"]

    assert parsed.output_parsed == streamed.output_parsed == Step(tool="whetstone", minutes=10)
    assert (sent["name"], sent["strict"]) == ("Step", True)


@pytest.mark.conformance("responses", "refusal")
async def test_a_refusal_is_not_parsed(tmp_path: Path) -> None:
    """Where the guard refuses a structured answer, the client finds a refusal and no broken JSON."""
    enforce = {"mode": "enforce"}
    reply = engine_reply('{"tool": "rope", "minutes": 1}', REFUSING)
    async with guarded(tmp_path, lambda r: reply, enforcement=enforce) as guard, _client(guard) as client:
        parsed = await client.responses.parse(model="default", input=QUESTION, text_format=Step)
        async with client.responses.stream(model="default", input=QUESTION, text_format=Step) as stream:
            kinds = [event.type async for event in stream]

    assert parsed.output_parsed is None
    message = parsed.output[-1]
    assert message.type == "message"
    assert message.content[0].type == "refusal"
    assert "response.refusal.done" in kinds


@pytest.mark.conformance("responses", "tools")
async def test_a_tool_loop_with_items(tmp_path: Path) -> None:
    """Output items are sent back as they came, reasoning included, with the tool's result."""
    asks = engine_reply("", HARMLESS, tool_calls=[CALL], finish="tool_calls")
    replies = iter([asks, engine_reply("Rain in Oslo.")])
    async with guarded(tmp_path, lambda r: next(replies)) as guard, _client(guard) as client:
        items: ResponseInputParam = [{"role": "user", "content": "Weather in Oslo?"}]
        first = await client.responses.create(model="default", input=items, tools=[WEATHER], store=False)
        call = first.output[-1]
        assert isinstance(call, ResponseFunctionToolCall)
        items += first.output  # type: ignore[arg-type] # as the SDK's own examples do
        items.append({"type": "function_call_output", "call_id": call.call_id, "output": "rain"})
        second = await client.responses.create(model="default", input=items, tools=[WEATHER], store=False)

    assert (call.name, call.arguments) == ("weather", '{"city": "Oslo"}')
    assert second.output_text == "Rain in Oslo."


@pytest.mark.conformance("responses", "tools in a stream")
async def test_parsed_tool_arguments(tmp_path: Path) -> None:
    """Arguments come back as an instance where the tool is given as a pydantic model."""
    call = ("call_1", "City", '{"city": "Oslo"}')
    reply = engine_reply("", HARMLESS, tool_calls=[call], finish="tool_calls")
    tools: Any = [pydantic_function_tool(City)]
    async with guarded(tmp_path, lambda r: reply) as guard, _client(guard) as client:
        parsed = await client.responses.parse(model="default", input="Oslo?", tools=tools)
        async with client.responses.stream(model="default", input="Oslo?", tools=tools) as stream:
            streamed = await stream.get_final_response()

    for response in (parsed, streamed):
        item = response.output[-1]
        assert item.type == "function_call"
        assert item.parsed_arguments == City(city="Oslo")


@pytest.mark.conformance("responses", "stored responses")
async def test_stored_responses(tmp_path: Path) -> None:
    """Going on by id, retrieving, listing the input, deleting: the SDK's methods all work."""
    async with guarded(tmp_path) as guard, _client(guard) as client:
        first = await client.responses.create(model="default", input="My name is Alice.")
        second = await client.responses.create(
            model="default", input="What is my name?", previous_response_id=first.id
        )
        again = await client.responses.retrieve(second.id)
        page = await client.responses.input_items.list(second.id)
        with pytest.raises(openai.BadRequestError, match="background"):
            await client.responses.cancel(second.id)
        await client.responses.delete(second.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(second.id)

    assert again.to_dict() == second.to_dict()
    assert [item.type for item in page.data] == ["message"]
    assert page.data[0].to_dict()["content"] == [{"type": "input_text", "text": "What is my name?"}]


@pytest.mark.conformance("responses", "background", outcome="refused")
async def test_background_responses_are_refused(tmp_path: Path) -> None:
    """background=True raises the SDK's own error with the field."""
    async with guarded(tmp_path) as guard, _client(guard) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model="default", input=QUESTION, background=True)

    assert refused.value.param == "background"


@pytest.mark.conformance("responses", "errors")
async def test_errors_are_typed(tmp_path: Path) -> None:
    """An unknown model or response raises the SDK's own error with its code."""
    async with guarded(tmp_path) as guard, _client(guard) as client:
        with pytest.raises(openai.NotFoundError):
            await client.responses.create(model="gpt-unknown", input=QUESTION)
        with pytest.raises(openai.BadRequestError) as unknown:
            await client.responses.create(
                model="default", input=QUESTION, previous_response_id="resp_unknown"
            )

    assert unknown.value.code == "previous_response_not_found"


@pytest.mark.conformance("responses", "broken stream")
async def test_a_failure_in_the_middle_is_an_event(tmp_path: Path) -> None:
    """The stream helper passes response.failed on and never takes it for an answer."""
    events = chat_events(["With", " a", " whetstone."], HARMLESS)
    async with (
        guarded(tmp_path, lambda r: Reply.sse([*events[:8], CLOSE])) as guard,
        _client(guard) as client,
        client.responses.stream(model="default", input=QUESTION) as stream,
    ):
        told = [event async for event in stream]
        with pytest.raises(RuntimeError, match="completed"):
            await stream.get_final_response()

    assert told[-1].type == "response.failed"
    assert told[-1].response.error is not None
    assert told[-1].response.error.code == "server_error"


@pytest.mark.conformance("responses", "abort")
async def test_leaving_a_stream_stops_the_engine(tmp_path: Path) -> None:
    """A stream closed after its first text drops the engine's connection."""
    async with guarded(tmp_path, stalling) as guard, _client(guard) as client:
        stream = await client.responses.create(model="default", input=QUESTION, stream=True)
        async for event in stream:
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        await asyncio.wait_for(guard.calls[0].disconnected.wait(), 10)
