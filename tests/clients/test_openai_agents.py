"""The openai-agents SDK in front of the guard: its loop of model calls, tools and handoffs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from agents import (
    Agent,
    ModelBehaviorError,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    function_tool,
)
from openai import AsyncOpenAI
from openai.types.shared import Reasoning
from pydantic import BaseModel

from tests.clients.engines import breaking_off, stalling
from tests.guarded import HARMLESS, REFUSING, Guarded, engine_reply, guarded
from tests.scripted import Reply

pytestmark = pytest.mark.client("openai-agents")

OFF = RunConfig(tracing_disabled=True)
CALLS = [("call_a", "weather", '{"city": "Oslo"}'), ("call_b", "weather", '{"city": "Bergen"}')]


class Report(BaseModel):
    """A typed final output."""

    city: str
    rain: bool


@function_tool
def weather(city: str) -> str:
    """Today's weather in a city."""
    return f"Rain in {city}."


def calling(*calls: tuple[str, str, str]) -> Reply:
    """An engine's answer that calls tools."""
    return engine_reply("", HARMLESS, tool_calls=calls, finish="tool_calls")


Kind = type[OpenAIChatCompletionsModel] | type[OpenAIResponsesModel]


@asynccontextmanager
async def running(
    folder: Path, *replies: Reply, kind: Kind = OpenAIResponsesModel, **settings: Any
) -> AsyncIterator[tuple[Guarded, Any]]:
    """A guard whose engine gives these replies in turn, and a model that talks to it."""
    script = iter(replies)
    async with (
        guarded(folder, lambda r: next(script), **settings) as guard,
        AsyncOpenAI(base_url=guard.url, api_key="none", max_retries=0) as client,
    ):
        yield guard, kind("default", client)


CHAT, RESPONSES = "chat/completions", "responses"


def on(*features: str) -> pytest.MarkDecorator:
    """Run a test with the model of each endpoint; the features are the table's."""
    kinds = ((CHAT, OpenAIChatCompletionsModel), (RESPONSES, OpenAIResponsesModel))
    cases = [
        pytest.param(kind, marks=pytest.mark.conformance(endpoint, *features), id=endpoint)
        for endpoint, kind in kinds
    ]
    return pytest.mark.parametrize("kind", cases)


@pytest.mark.parametrize(
    ("kind", "by_id"),
    [
        pytest.param(
            *(OpenAIChatCompletionsModel, False), marks=pytest.mark.conformance(CHAT, "answer", "tools")
        ),
        pytest.param(
            *(OpenAIResponsesModel, False), marks=pytest.mark.conformance(RESPONSES, "answer", "tools")
        ),
        pytest.param(
            *(OpenAIResponsesModel, True), marks=pytest.mark.conformance(RESPONSES, "stored responses")
        ),
    ],
)
async def test_a_tool_loop(tmp_path: Path, kind: Kind, by_id: bool) -> None:
    """Two parallel calls are run and their results answered, by items or by the previous response's id."""
    async with running(tmp_path, calling(*CALLS), engine_reply("Take a coat."), kind=kind) as (guard, model):
        agent = Agent("Meteorologist", instructions="Be brief.", model=model, tools=[weather])
        result = await Runner.run(agent, "Oslo and Bergen?", run_config=OFF, auto_previous_response_id=by_id)
        sent = guard.calls[1].json["messages"]

    assert result.final_output == "Take a coat."
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "tool", "tool"]
    assert [message["content"] for message in sent[3:]] == ["Rain in Oslo.", "Rain in Bergen."]
    assert sent[0]["content"].endswith("Be brief.")


@on("stream", "tools in a stream")
async def test_a_streamed_tool_loop(tmp_path: Path, kind: Kind) -> None:
    """The streamed runner sees the call, the result and the text in pieces."""
    async with running(tmp_path, calling(CALLS[0]), engine_reply("Take a coat."), kind=kind) as (_, model):
        agent = Agent("Meteorologist", model=model, tools=[weather])
        result = Runner.run_streamed(agent, "Oslo?", run_config=OFF)
        events = [event async for event in result.stream_events()]

    names = [event.name for event in events if event.type == "run_item_stream_event"]
    deltas = [
        event.data.delta
        for event in events
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]
    assert {"tool_called", "tool_output", "message_output_created"} <= set(names)
    assert "".join(deltas) == result.final_output == "Take a coat."


@on("thinking")
async def test_the_thinking(tmp_path: Path, kind: Kind) -> None:
    """The thinking is an item of the run, before the message."""
    async with running(tmp_path, engine_reply("Hello."), kind=kind) as (_, model):
        settings = ModelSettings(reasoning=Reasoning(effort="low", summary="auto"))
        result = await Runner.run(Agent("Clerk", model=model, model_settings=settings), "Hi.", run_config=OFF)

    thinking, message = result.new_items
    assert thinking.type == "reasoning_item"
    assert [part.text for part in thinking.raw_item.summary] == [HARMLESS]
    assert message.type == "message_output_item"


@on("structured output")
async def test_a_typed_output(tmp_path: Path, kind: Kind) -> None:
    """An output type becomes a schema, and the final output an instance."""
    async with running(tmp_path, engine_reply('{"city": "Oslo", "rain": true}'), kind=kind) as (_, model):
        agent = Agent("Meteorologist", model=model, output_type=Report)
        result = await Runner.run(agent, "Oslo?", run_config=OFF)

    assert result.final_output == Report(city="Oslo", rain=True)


async def test_a_handoff(tmp_path: Path) -> None:
    """One agent hands over to another, whose instructions replace the first one's."""
    handing = calling(("call_h", "transfer_to_poet", "{}"))
    async with running(tmp_path, handing, engine_reply("Rain, rain.")) as (guard, model):
        poet = Agent("Poet", instructions="Write verse.", model=model)
        agent = Agent("Clerk", instructions="Hand over.", model=model, handoffs=[poet])
        result = await Runner.run(agent, "Rain?", run_config=OFF)
        sent = guard.calls[1].json["messages"]

    assert (result.last_agent.name, result.final_output) == ("Poet", "Rain, rain.")
    assert sent[0]["content"].endswith("Write verse.")
    assert "Hand over." not in str(sent)


async def test_model_settings(tmp_path: Path) -> None:
    """Settings that agents commonly give are honoured, and come back from the store."""
    settings = ModelSettings(
        temperature=0.2,
        max_tokens=64,
        parallel_tool_calls=False,
        reasoning=Reasoning(effort="low", summary="auto"),
        metadata={"team": "sea"},
        store=True,
    )
    async with running(tmp_path, engine_reply("Hello.")) as (guard, model):
        agent = Agent("Clerk", model=model, model_settings=settings, tools=[weather])
        result = await Runner.run(agent, "Hi.", run_config=OFF)
        sent = guard.calls[0].json

    assert result.final_output == "Hello."
    assert (sent["temperature"], sent["reasoning_effort"], sent["parallel_tool_calls"]) == (0.2, "low", False)


@on("refusal")
async def test_tools_are_not_run_against_the_verdict(tmp_path: Path, kind: Kind) -> None:
    """A call under a refusing thinking never reaches the agent. Field lesson 15."""
    ran: list[str] = []

    @function_tool
    def deploy(target: str) -> str:
        """Deploy to a target."""
        ran.append(target)
        return "done"

    bad = engine_reply("", REFUSING, tool_calls=[("c", "deploy", '{"target": "x"}')], finish="tool_calls")
    enforce = {"mode": "enforce"}
    async with running(tmp_path, bad, bad, kind=kind, enforcement=enforce) as (_, model):
        agent = Agent("Operator", model=model, tools=[deploy])
        result = await Runner.run(agent, "Go.", run_config=OFF)

    assert ran == []
    assert result.final_output


@on("errors")
async def test_errors_are_the_openai_clients(tmp_path: Path, kind: Kind) -> None:
    """A setting out of range ends the run with the error that names it."""
    settings = ModelSettings(temperature=9)
    async with running(tmp_path, kind=kind) as (_, model):
        agent = Agent("Clerk", model=model, model_settings=settings)
        with pytest.raises(openai.BadRequestError) as refused:
            await Runner.run(agent, "Hi.", run_config=OFF)

    assert refused.value.param == "temperature"


@on("broken stream")
async def test_a_broken_stream_ends_the_run(tmp_path: Path, kind: Kind) -> None:
    """A stream that breaks off is an exception for the application, not a short output."""
    async with running(tmp_path, breaking_off(), kind=kind) as (_, model):
        result = Runner.run_streamed(Agent("Clerk", model=model), "Hi.", run_config=OFF)
        with pytest.raises((openai.APIError, ModelBehaviorError), match="lost in the middle"):
            [event async for event in result.stream_events()]


@on("abort")
async def test_cancelling_a_run_stops_the_engine(tmp_path: Path, kind: Kind) -> None:
    """A streamed run that is cancelled after its first text drops the engine's connection."""
    async with running(tmp_path, stalling(), kind=kind) as (guard, model):
        result = Runner.run_streamed(Agent("Clerk", model=model), "Hi.", run_config=OFF)
        async for event in result.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                result.cancel()
        await asyncio.wait_for(guard.calls[0].disconnected.wait(), 10)


@pytest.mark.conformance(CHAT, "usage in a stream")
async def test_the_usage_of_a_stream(tmp_path: Path) -> None:
    """A streamed run counts the tokens that the guard's record has."""
    settings = ModelSettings(include_usage=True)
    async with running(tmp_path, engine_reply("Hello."), kind=OpenAIChatCompletionsModel) as (guard, model):
        agent = Agent("Clerk", model=model, model_settings=settings)
        result = Runner.run_streamed(agent, "Hi.", run_config=OFF)
        [event async for event in result.stream_events()]
        record = (await guard.records())[0]

    assert result.context_wrapper.usage.input_tokens == record.prompt_tokens


@pytest.mark.conformance(CHAT, "storing", outcome="refused")
async def test_storing_a_chat_is_refused(tmp_path: Path) -> None:
    """store=True ends the run with the error that names the field."""
    async with running(tmp_path, kind=OpenAIChatCompletionsModel) as (_, model):
        agent = Agent("Clerk", model=model, model_settings=ModelSettings(store=True))
        with pytest.raises(openai.BadRequestError) as refused:
            await Runner.run(agent, "Hi.", run_config=OFF)

    assert refused.value.param == "store"
