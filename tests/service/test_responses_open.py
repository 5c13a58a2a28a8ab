"""The seven cases of the Open Responses compliance suite, written anew against the guard.

The suite checks each answer's schema and a few facts; here the validator in ``tests/responses_stream.py``
checks the whole order of events as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.guarded import HARMLESS, engine_reply, guarded
from tests.responding import respond, stream, visible
from tests.responses_stream import Data

REQUIRED = (
    "id object created_at completed_at status incomplete_details model previous_response_id instructions "
    "output error tools tool_choice truncation parallel_tool_calls text top_p presence_penalty "
    "frequency_penalty top_logprobs temperature reasoning user usage max_output_tokens max_tool_calls store "
    "background service_tier metadata safety_identifier prompt_cache_key"
).split()
"""What the specification requires of a response object."""
NUMBERS = ("top_p", "presence_penalty", "frequency_penalty", "top_logprobs", "temperature", "created_at")
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather for a location.",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string"}},
        "required": ["location"],
    },
}
CALL = ("call_1", "get_weather", '{"location": "San Francisco, CA"}')


def said(role: str, content: Any) -> Data:
    """A message item."""
    return {"type": "message", "role": role, "content": content}


def complete(response: Data) -> Data:
    """A response with everything that the specification requires; itself."""
    assert [name for name in REQUIRED if name not in response] == []
    assert all(isinstance(response[name], int | float) for name in NUMBERS)
    assert response["output"]
    assert response["status"] == "completed"
    return response


async def test_basic_response(tmp_path: Path) -> None:
    """A user message is answered with a complete response object."""
    async with guarded(tmp_path) as guard:
        body = await respond(guard, [said("user", "Say hello in exactly 3 words.")], stream=False)

    complete(body)


async def test_streaming_response(tmp_path: Path) -> None:
    """Every event is valid, and the last one holds the complete response."""
    async with guarded(tmp_path, lambda r: engine_reply("1 2 3 4 5")) as guard:
        told = await stream(guard, [said("user", "Count from 1 to 5.")])

    assert visible(complete(told.response)["output"])[0]["content"][0]["text"] == told.text == "1 2 3 4 5"


async def test_system_prompt(tmp_path: Path) -> None:
    """A system message of the input is the application's prompt."""
    prompt = "You are a pirate. Always respond in pirate speak."
    async with guarded(tmp_path, lambda r: engine_reply("Ahoy!")) as guard:
        body = await respond(guard, [said("system", prompt), said("user", "Say hello.")])
        sent = guard.calls[0].json["messages"]

    complete(body)
    assert [message["role"] for message in sent] == ["system", "user"]
    assert sent[0]["content"].endswith(prompt)


async def test_tool_calling(tmp_path: Path) -> None:
    """A function tool leads to a function_call item."""
    reply = engine_reply("", HARMLESS, tool_calls=[CALL], finish="tool_calls")
    async with guarded(tmp_path, lambda r: reply) as guard:
        question = [said("user", "What's the weather like in San Francisco?")]
        body = await respond(guard, question, tools=[WEATHER])

    assert [item["type"] for item in visible(complete(body)["output"])] == ["function_call"]
    assert body["tools"][0]["name"] == "get_weather"


async def test_tool_calling_streaming(tmp_path: Path) -> None:
    """A streamed call is opened, its arguments come in deltas and whole, and it is closed."""
    reply = engine_reply("", HARMLESS, tool_calls=[CALL], finish="tool_calls")
    async with guarded(tmp_path, lambda r: reply) as guard:
        question = [said("user", "What's the weather like in San Francisco?")]
        told = await stream(guard, question, tools=[WEATHER])

    kinds = [e["item"]["type"] for e in told.events if e["type"] == "response.output_item.done"]
    assert kinds[-1] == "function_call"
    deltas = [e for e in told.events if e["type"] == "response.function_call_arguments.delta"]
    assert "".join(event["delta"] for event in deltas) == CALL[2]
    assert "response.function_call_arguments.done" in told.types
    complete(told.response)


@pytest.mark.parametrize("detail", [{}, {"detail": "low"}])
async def test_image_input(tmp_path: Path, detail: Data) -> None:
    """An image is passed to the engine as it came."""
    parts = [
        {"type": "input_text", "text": "What do you see in this image?"},
        {"type": "input_image", "image_url": PIXEL, **detail},
    ]
    async with guarded(tmp_path) as guard:
        body = await respond(guard, [said("user", parts)])
        sent = guard.calls[0].json["messages"][1]["content"]

    complete(body)
    assert sent[1] == {"type": "image_url", "image_url": {"url": PIXEL, **detail}}


async def test_multi_turn(tmp_path: Path) -> None:
    """A conversation sent as items reaches the engine turn by turn."""
    turns = [
        said("user", "My name is Alice."),
        said("assistant", "Hello Alice! Nice to meet you. How can I help you today?"),
        said("user", "What is my name?"),
    ]
    async with guarded(tmp_path, lambda r: engine_reply("Alice.")) as guard:
        body = await respond(guard, turns)
        sent = guard.calls[0].json["messages"]

    complete(body)
    assert [(m["role"], m["content"]) for m in sent[1:]] == [(t["role"], t["content"]) for t in turns]
