"""LangChain's ChatOpenAI in front of the guard, over chat completions and over responses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import openai
import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from openai import DefaultAsyncHttpxClient, DefaultHttpxClient
from pydantic import BaseModel, SecretStr

from tests.clients.engines import ENFORCE, KEY, KEYED, breaking_off, embedding, stalling, using_a_tool
from tests.guarded import HARMLESS, REFUSING, Guarded, engine_reply, guarded

pytestmark = pytest.mark.client("langchain-openai")

QUESTION = "How do I sharpen a knife?"
STEP = engine_reply('{"tool": "whetstone", "minutes": 5}')


class Step(BaseModel):
    """What the structured tests parse."""

    tool: str
    minutes: int


@tool
def timer(minutes: int) -> str:
    """Set a timer."""
    return f"{minutes} set"


def on(feature: str) -> pytest.MarkDecorator:
    """Run a test over both endpoints; the feature is the table's."""
    return pytest.mark.parametrize(
        "responses",
        [
            pytest.param(False, marks=pytest.mark.conformance("chat/completions", feature), id="chat"),
            pytest.param(True, marks=pytest.mark.conformance("responses", feature), id="responses"),
        ],
    )


@asynccontextmanager
async def _http() -> AsyncIterator[dict[str, Any]]:
    """Connections of one test; left out, LangChain keeps some for the life of the process."""
    with DefaultHttpxClient() as blocking:
        async with DefaultAsyncHttpxClient() as http:
            yield {"http_client": blocking, "http_async_client": http, "max_retries": 0}


@asynccontextmanager
async def _model(
    guard: Guarded, responses: bool = False, key: str = "none", **settings: Any
) -> AsyncIterator[ChatOpenAI]:
    named = {"model": "default", "base_url": guard.url, "api_key": SecretStr(key), **settings}
    async with _http() as http:
        yield ChatOpenAI(use_responses_api=responses, **named, **http)


@on("answer")
async def test_invoke(tmp_path: Path, responses: bool) -> None:
    """A question gets a message with text and usage."""
    async with guarded(tmp_path) as guard, _model(guard, responses) as model:
        message = await model.ainvoke(QUESTION)
        record = (await guard.records())[0]

    assert message.text == "With a whetstone."
    assert message.usage_metadata is not None
    assert message.usage_metadata["input_tokens"] == record.prompt_tokens


async def test_the_blocking_client(tmp_path: Path) -> None:
    """The blocking call works the same."""
    async with guarded(tmp_path) as guard, _model(guard) as model:
        message = await asyncio.to_thread(model.invoke, QUESTION)

    assert message.text == "With a whetstone."


@on("stream")
async def test_a_stream(tmp_path: Path, responses: bool) -> None:
    """Chunks add up to the whole message."""
    async with guarded(tmp_path) as guard, _model(guard, responses) as model:
        chunks = [chunk async for chunk in model.astream(QUESTION)]

    assert "".join(chunk.text for chunk in chunks) == "With a whetstone."


@pytest.mark.conformance("chat/completions", "usage in a stream")
async def test_the_usage_of_a_stream(tmp_path: Path) -> None:
    """Exactly one chunk has the usage, when it is asked for."""
    async with guarded(tmp_path) as guard, _model(guard, stream_usage=True) as model:
        chunks = [chunk async for chunk in model.astream(QUESTION)]
        record = (await guard.records())[0]

    usages = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert [usage["input_tokens"] for usage in usages] == [record.prompt_tokens]


@on("tools")
async def test_a_tool_loop(tmp_path: Path, responses: bool) -> None:
    """bind_tools: the call is run and its result, with the client's own message, is answered."""
    async with guarded(tmp_path, using_a_tool) as guard, _model(guard, responses) as unbound:
        model = unbound.bind_tools([timer])
        asked = HumanMessage("Five minutes, please.")
        calling = await model.ainvoke([asked])
        [call] = calling.tool_calls
        result = await timer.ainvoke(call)
        message = await model.ainvoke([asked, calling, result])
        sent = guard.calls[1].json["messages"]

    assert (call["name"], call["args"]) == ("timer", {"minutes": 5})
    assert isinstance(result, ToolMessage)
    assert message.text == "The timer runs."
    assert [turn["role"] for turn in sent] == ["system", "user", "assistant", "tool"]


@on("tools in a stream")
async def test_a_streamed_tool_call(tmp_path: Path, responses: bool) -> None:
    """The pieces of a streamed call add up to one with parsed arguments."""
    async with guarded(tmp_path, using_a_tool) as guard, _model(guard, responses) as model:
        chunks = [chunk async for chunk in model.bind_tools([timer]).astream(QUESTION)]

    whole = add_ai_message_chunks(*(chunk for chunk in chunks if isinstance(chunk, AIMessageChunk)))
    assert [(call["name"], call["args"]) for call in whole.tool_calls] == [("timer", {"minutes": 5})]


@on("structured output")
async def test_a_structured_answer(tmp_path: Path, responses: bool) -> None:
    """with_structured_output sends a schema and gives an instance."""
    async with guarded(tmp_path, lambda request: STEP) as guard, _model(guard, responses) as model:
        step = await model.with_structured_output(Step).ainvoke(QUESTION)
        form = guard.calls[0].json["response_format"]

    assert step == Step(tool="whetstone", minutes=5)
    assert form["type"] == "json_schema"


@on("refusal")
async def test_a_refusal_is_not_parsed(tmp_path: Path, responses: bool) -> None:
    """Where the guard refuses, there is no object, and the refusal is in the raw message."""
    reply = engine_reply('{"tool": "rope", "minutes": 1}', REFUSING)
    async with (
        guarded(tmp_path, lambda request: reply, **ENFORCE) as guard,
        _model(guard, responses) as model,
    ):
        told = await model.with_structured_output(Step, include_raw=True).ainvoke(QUESTION)
        record = (await guard.records())[0]

    assert isinstance(told, dict)
    assert told["parsed"] is None
    raw = told["raw"]
    refusal = raw.content[-1]["refusal"] if responses else raw.additional_kwargs["refusal"]
    assert refusal == record.answer


@pytest.mark.conformance("responses", "thinking")
async def test_the_thinking(tmp_path: Path) -> None:
    """The thinking is a block of its own before the text, for a key that may see it."""
    shown = {"effort": "low", "summary": "auto"}
    async with (
        guarded(tmp_path, **KEYED) as guard,
        _model(guard, responses=True, key=KEY, reasoning=shown) as model,
    ):
        thinking, text = (await model.ainvoke(QUESTION)).content_blocks

    assert (thinking["type"], thinking.get("reasoning")) == ("reasoning", HARMLESS)
    assert text.get("text") == "With a whetstone."


@on("errors")
async def test_errors_are_the_openai_clients(tmp_path: Path, responses: bool) -> None:
    """A field out of range and an unknown model raise what the OpenAI client raises."""
    async with (
        guarded(tmp_path) as guard,
        _model(guard, responses, temperature=9) as hot,
        _model(guard, responses, model="nope") as unknown,
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            await hot.ainvoke(QUESTION)
        with pytest.raises(openai.NotFoundError):
            await unknown.ainvoke(QUESTION)

    assert refused.value.param == "temperature"


@on("broken stream")
async def test_a_broken_stream_is_an_error(tmp_path: Path, responses: bool) -> None:
    """A stream that breaks off is an exception for the application, not a short answer."""
    async with guarded(tmp_path, breaking_off) as guard, _model(guard, responses) as model:
        with pytest.raises((openai.APIError, ValueError), match="lost in the middle"):
            [chunk async for chunk in model.astream(QUESTION)]


@on("abort")
async def test_leaving_a_stream_stops_the_engine(tmp_path: Path, responses: bool) -> None:
    """A stream closed after its first text drops the engine's connection."""
    async with guarded(tmp_path, stalling) as guard, _model(guard, responses) as model:
        async with aclosing(cast(AsyncGenerator[Any], model.astream(QUESTION))) as stream:
            async for chunk in stream:
                if chunk.text:
                    break
        await asyncio.wait_for(guard.calls[0].disconnected.wait(), 10)


@pytest.mark.conformance("chat/completions", "storing", outcome="refused")
async def test_storing_a_chat_is_refused(tmp_path: Path) -> None:
    """store=True raises an error that names the field."""
    async with guarded(tmp_path) as guard, _model(guard, store=True) as model:
        with pytest.raises(openai.BadRequestError) as refused:
            await model.ainvoke(QUESTION)

    assert refused.value.param == "store"


@pytest.mark.conformance("responses", "background", outcome="refused")
async def test_background_responses_are_refused(tmp_path: Path) -> None:
    """A background response raises an error that names the field."""
    async with guarded(tmp_path) as guard, _model(guard, responses=True) as model:
        with pytest.raises(openai.BadRequestError) as refused:
            await model.ainvoke(QUESTION, background=True)

    assert refused.value.param == "background"


@pytest.mark.conformance("responses", "stored responses")
async def test_going_on_from_a_stored_response(tmp_path: Path) -> None:
    """use_previous_response_id sends only what is new, and the engine gets the whole conversation."""
    async with (
        guarded(tmp_path) as guard,
        _model(guard, responses=True, use_previous_response_id=True) as model,
    ):
        asked = HumanMessage("My name is Alice.")
        first = await model.ainvoke([asked])
        await model.ainvoke([asked, first, HumanMessage("What is my name?")])
        sent = guard.calls[1].json["messages"]

    assert [turn["role"] for turn in sent] == ["system", "user", "assistant", "user"]


@pytest.mark.conformance("completions", "answer", "stream")
async def test_completions(tmp_path: Path) -> None:
    """The completion model answers a prompt, whole and streamed."""
    async with guarded(tmp_path) as guard, _http() as http:
        model = OpenAI(model="default", base_url=guard.url, api_key=SecretStr("none"), **http)
        whole = await model.ainvoke("How?")
        text = "".join([piece async for piece in model.astream("How?")])

    assert whole == text == "With a whetstone."


@pytest.mark.conformance("embeddings", "vectors")
async def test_embeddings(tmp_path: Path) -> None:
    """There is a vector for each text; check_embedding_ctx_length is off, or a tokenizer is fetched."""
    async with guarded(tmp_path) as guard, _http() as http:
        guard.engine.otherwise(embedding)
        model = OpenAIEmbeddings(
            model="default",
            base_url=guard.url,
            api_key=SecretStr("none"),
            check_embedding_ctx_length=False,
            **http,
        )
        vectors = await model.aembed_documents(["a", "b"])

    assert vectors == [[0.5, 0.0], [0.5, 1.0]]
