"""The litellm library as a client of the guard: one prefix before the model, LiteLLM's types and errors."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
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
from tests.clients.standing import Saw, standing
from tests.guarded import HARMLESS, REFUSING, engine_reply, guarded

LITELLM = os.environ.get("LITELLM", "")
pytestmark = [
    pytest.mark.client("litellm"),
    pytest.mark.skipif(
        not LITELLM, reason="LITELLM names no command of LiteLLM's; make clients installs one"
    ),
]

STEP = '{"tool": "whetstone", "minutes": 5}'


@pytest.fixture(scope="module", name="saw")
def _saw() -> Iterator[Saw]:
    with standing(Path(LITELLM).with_name("python"), "litellm_client.py") as saw:
        yield saw


@pytest.mark.conformance("chat/completions", "answer", "thinking")
async def test_a_completion(tmp_path: Path, saw: Saw) -> None:
    """The message has text, usage and, for a key that may see it, the thinking."""
    async with guarded(tmp_path, **KEYED) as guard:
        message = await saw("chat", guard.url, KEY)
        record = (await guard.records())[0]

    assert (message["content"], message["thinking"]) == ("With a whetstone.", HARMLESS)
    assert message["prompt_tokens"] == record.prompt_tokens


@pytest.mark.conformance("chat/completions", "stream", "usage in a stream", "thinking")
async def test_a_stream(tmp_path: Path, saw: Saw) -> None:
    """Chunks add up to thinking and text, and one of them has the usage."""
    async with guarded(tmp_path) as guard:
        message = await saw("stream", guard.url)
        record = (await guard.records())[0]

    assert (message["content"], message["thinking"]) == ("With a whetstone.", HARMLESS)
    assert message["usages"] == [record.prompt_tokens]


@pytest.mark.conformance("chat/completions", "tools", "tools in a stream")
async def test_tools(tmp_path: Path, saw: Saw) -> None:
    """A call comes back whole, and put together from a stream."""
    async with guarded(tmp_path, using_a_tool) as guard:
        messages = await saw("tools", guard.url)

    assert [message["calls"] for message in messages] == [[list(TIMER)]] * 2
    assert [message["reason"] for message in messages] == ["tool_calls"] * 2


@pytest.mark.conformance("chat/completions", "structured output")
async def test_a_structured_answer(tmp_path: Path, saw: Saw) -> None:
    """The schema reaches the engine, and the content comes back as it is."""
    reply = engine_reply(STEP)
    async with guarded(tmp_path, lambda request: reply) as guard:
        message = await saw("structured", guard.url)
        form = guard.calls[0].json["response_format"]

    assert message["content"] == STEP
    assert (form["type"], form["json_schema"]["strict"]) == ("json_schema", True)


@pytest.mark.conformance("chat/completions", "refusal")
async def test_a_refusal(tmp_path: Path, saw: Saw) -> None:
    """Where the guard refuses a structured answer, there is no content; the refusal is in its own field."""
    reply = engine_reply(STEP, REFUSING)
    async with guarded(tmp_path, lambda request: reply, **ENFORCE) as guard:
        message = await saw("structured", guard.url)
        record = (await guard.records())[0]

    assert (message["content"], message["refusal"]) == (None, record.answer)


@pytest.mark.conformance("chat/completions", "errors")
async def test_errors_are_mapped(tmp_path: Path, saw: Saw) -> None:
    """Each status becomes LiteLLM's own exception, with the guard's words."""
    async with guarded(tmp_path, **KEYED) as guard:
        errors = await saw("errors", guard.url, KEY)

    assert (errors["field"]["kind"], errors["field"]["status"]) == ("BadRequestError", 400)
    assert "temperature" in errors["field"]["message"]
    assert (errors["model"]["kind"], errors["key"]["kind"]) == ("NotFoundError", "AuthenticationError")


@pytest.mark.conformance("chat/completions", "storing", outcome="refused")
async def test_storing_a_chat_is_refused(tmp_path: Path, saw: Saw) -> None:
    """store=True raises LiteLLM's bad request with the field's name."""
    async with guarded(tmp_path, **KEYED) as guard:
        stored = (await saw("errors", guard.url, KEY))["store"]

    assert stored["kind"] == "BadRequestError"
    assert "store" in stored["message"]


@pytest.mark.conformance("chat/completions", "broken stream")
async def test_a_broken_stream_is_an_error(tmp_path: Path, saw: Saw) -> None:
    """A stream that breaks off is an exception for the application, not a short answer."""
    async with guarded(tmp_path, breaking_off) as guard:
        error = await saw("broken", guard.url)

    assert "lost in the middle" in error["message"]


@pytest.mark.conformance("chat/completions", "abort")
async def test_leaving_a_stream_stops_the_engine(tmp_path: Path, saw: Saw) -> None:
    """A stream closed after its first text drops the engine's connection."""
    async with guarded(tmp_path, stalling) as guard:
        first = await saw("abort", guard.url)
        await asyncio.wait_for(guard.calls[0].disconnected.wait(), 10)

    assert "With a whetstone.".startswith(first)


@pytest.mark.conformance("responses", "answer", "thinking", "stream")
async def test_a_response(tmp_path: Path, saw: Saw) -> None:
    """A response has thinking and text as items; a streamed one ends as a whole."""
    async with guarded(tmp_path) as guard:
        response = await saw("response", guard.url)

    assert response == {
        "thinking": HARMLESS,
        "text": "With a whetstone.",
        "streamed": "With a whetstone.",
        "last": "response.completed",
    }


@pytest.mark.conformance("responses", "errors")
async def test_errors_of_responses_are_mapped(tmp_path: Path, saw: Saw) -> None:
    """A field out of range is LiteLLM's bad request, with the guard's words."""
    async with guarded(tmp_path) as guard:
        field = (await saw("response_errors", guard.url))["field"]

    assert field["kind"] == "BadRequestError"
    assert "temperature" in field["message"]


@pytest.mark.conformance("responses", "background", outcome="refused")
async def test_background_responses_are_refused(tmp_path: Path, saw: Saw) -> None:
    """background=True raises LiteLLM's bad request with the field's name."""
    async with guarded(tmp_path) as guard:
        background = (await saw("response_errors", guard.url))["background"]

    assert background["kind"] == "BadRequestError"
    assert "background" in background["message"]


@pytest.mark.conformance("responses", "tools", "tools in a stream", "stored responses")
async def test_a_tool_loop_over_stored_responses(tmp_path: Path, saw: Saw) -> None:
    """A call is answered by its id on top of the response that called, which the guard has kept."""
    async with guarded(tmp_path, using_a_tool) as guard:
        loop = await saw("response_tools", guard.url)

    assert loop == {"calls": [list(TIMER)] * 2, "text": "The timer runs."}


@pytest.mark.parametrize(
    ("thinking", "kind"),
    [
        pytest.param(
            *(HARMLESS, "output_text"), marks=pytest.mark.conformance("responses", "structured output")
        ),
        pytest.param(*(REFUSING, "refusal"), marks=pytest.mark.conformance("responses", "refusal")),
    ],
)
async def test_a_structured_response(tmp_path: Path, saw: Saw, thinking: str, kind: str) -> None:
    """A response under a schema holds its JSON, or where the guard refuses the refusal."""
    reply = engine_reply(STEP, thinking)
    async with guarded(tmp_path, lambda request: reply, **ENFORCE) as guard:
        found = await saw("response_structured", guard.url)
        record = (await guard.records())[0]

    assert found == [kind, record.answer]


@pytest.mark.conformance("responses", "broken stream")
async def test_a_broken_response_is_an_error(tmp_path: Path, saw: Saw) -> None:
    """A response that breaks off is an exception for the application, not a short answer."""
    async with guarded(tmp_path, breaking_off) as guard:
        error = await saw("response_broken", guard.url)

    assert "lost in the middle" in error["message"]


@pytest.mark.conformance("messages", "answer", "stream", "usage in a stream", "thinking")
async def test_messages(tmp_path: Path, saw: Saw) -> None:
    """The anthropic prefix speaks to /v1/messages, whole and streamed, and gets thinking, text and usage."""
    async with guarded(tmp_path) as guard:
        whole, events = await saw("messages", guard.url)
        records = await guard.records()

    said = [(block["type"], block.get("thinking", block.get("text"))) for block in whole["content"]]
    assert said == [("thinking", HARMLESS), ("text", "With a whetstone.")]
    assert _pieces(events, "thinking") == HARMLESS
    assert _pieces(events, "text") == "With a whetstone."
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    assert events[-2]["usage"]["input_tokens"] == records[0].prompt_tokens
    assert {record.endpoint for record in records} == {"messages"}


def _pieces(events: list[Any], kind: str) -> str:
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    return "".join(delta[kind] for delta in deltas if delta["type"] == f"{kind}_delta")


@pytest.mark.conformance("messages", "tools", "tools in a stream")
async def test_a_tool_loop_over_messages(tmp_path: Path, saw: Saw) -> None:
    """A call comes whole and in a stream, and its result is answered."""
    async with guarded(tmp_path, using_a_tool) as guard:
        loop = await saw("message_tools", guard.url)

    assert loop == {"streamed": list(TIMER), "whole": list(TIMER), "text": "The timer runs."}


@pytest.mark.conformance("messages", "refusal")
async def test_a_refused_message(tmp_path: Path, saw: Saw) -> None:
    """What the guard refuses has the stop reason that says so, whole and streamed, and none of the answer."""
    reply = engine_reply("Sure! Take the following steps.", REFUSING)
    async with guarded(tmp_path, lambda request: reply, **ENFORCE) as guard:
        whole, events = await saw("messages", guard.url)
        record = (await guard.records())[0]

    assert (whole["stop_reason"], events[-2]["delta"]["stop_reason"]) == ("refusal", "refusal")
    assert whole["content"][-1]["text"] == _pieces(events, "text") == record.answer
    assert "Sure" not in str((whole, events))


@pytest.mark.conformance("messages", "errors")
async def test_errors_of_messages_are_mapped(tmp_path: Path, saw: Saw) -> None:
    """Each status of /v1/messages becomes LiteLLM's own exception, with the guard's words."""
    async with guarded(tmp_path, **KEYED) as guard:
        errors = await saw("message_errors", guard.url, KEY)

    assert (errors["field"]["kind"], errors["field"]["status"]) == ("BadRequestError", 400)
    assert "temperature" in errors["field"]["message"]
    assert (errors["model"]["kind"], errors["key"]["kind"]) == ("NotFoundError", "AuthenticationError")


@pytest.mark.conformance("messages", "container", outcome="refused")
async def test_containers_are_refused(tmp_path: Path, saw: Saw) -> None:
    """A container to run code in raises LiteLLM's bad request with the field's name."""
    async with guarded(tmp_path, **KEYED) as guard:
        container = (await saw("message_errors", guard.url, KEY))["container"]

    assert container["kind"] == "BadRequestError"
    assert "container" in container["message"]


@pytest.mark.conformance("messages", "broken stream")
async def test_a_broken_message_ends_with_its_error(tmp_path: Path, saw: Saw) -> None:
    """LiteLLM passes on the error's event, so that a message that breaks off is not a short answer."""
    async with guarded(tmp_path, breaking_off) as guard:
        events = await saw("message_stream", guard.url)

    assert events[-1]["type"] == "error"
    assert "lost in the middle" in events[-1]["error"]["message"]
    assert "message_stop" not in [event["type"] for event in events]


@pytest.mark.conformance("messages", "abort")
async def test_leaving_a_message_stops_the_engine(tmp_path: Path, saw: Saw) -> None:
    """A streamed message closed after its first text drops the engine's connection."""
    async with guarded(tmp_path, stalling) as guard:
        first = await saw("message_abort", guard.url)
        await asyncio.wait_for(guard.calls[0].disconnected.wait(), 10)

    assert '"text":"With"' in first


@pytest.mark.conformance("messages", "counting tokens")
async def test_counting_tokens(tmp_path: Path, saw: Saw) -> None:
    """The guard counts the tokens, with the policy, and not LiteLLM's own tokenizer."""
    async with guarded(tmp_path) as guard:
        tokenizer, tokens = await saw("message_tokens", guard.url)

    assert tokenizer == "anthropic_api"
    assert tokens > 500


@pytest.mark.conformance("completions", "answer", "stream")
async def test_completions(tmp_path: Path, saw: Saw) -> None:
    """A prompt is answered, whole and streamed."""
    async with guarded(tmp_path) as guard:
        texts = await saw("completions", guard.url)

    assert texts == ["With a whetstone."] * 2


@pytest.mark.conformance("embeddings", "vectors")
async def test_embeddings(tmp_path: Path, saw: Saw) -> None:
    """There is a vector for each text."""
    async with guarded(tmp_path) as guard:
        guard.engine.otherwise(embedding)
        vectors = await saw("embeddings", guard.url)

    assert vectors == [[0.5, 0.0], [0.5, 1.0]]


@pytest.mark.conformance("moderations", "judgement")
async def test_moderations(tmp_path: Path, saw: Saw) -> None:
    """A text that meets a clause is flagged."""
    judged = engine_reply("refuse", REFUSING)
    async with guarded(tmp_path, lambda request: judged) as guard:
        assert await saw("moderations", guard.url) is True
