"""The guard in front of the real engines that it starts itself, used with the official SDK."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import aiohttp
import pytest
import pytest_asyncio
from openai import AsyncOpenAI, BadRequestError
from pydantic import BaseModel

from tests.process import ROOT, Serving, run_guard, serving_process

pytestmark = [
    pytest.mark.engine,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("engines"),
]

MODEL = Path(os.environ.get("GUARD_TEST_MODEL", ROOT / "models" / "smollm2-135m-instruct")).absolute()
VLLM_PYTHON = os.environ.get("VLLM_PYTHON", "")
HELLO: Any = [{"role": "user", "content": "How do I sharpen a kitchen knife?"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "set_timer",
            "parameters": {
                "type": "object",
                "properties": {"minutes": {"type": "integer"}},
                "required": ["minutes"],
            },
        },
    }
]
VLLM = [
    *("--engine", "vllm", "--engine-python", VLLM_PYTHON, "--model", str(MODEL)),
    *("--engine-arg=--enable-auto-tool-choice", "--engine-arg=--tool-call-parser=hermes"),
]


class Step(BaseModel):
    """What the structured test parses: closed choices, since a small model may never end a free text."""

    tool: Literal["whetstone", "file"]
    sharp: bool


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="transformers")
async def _transformers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    folder = tmp_path_factory.mktemp("transformers")
    if not MODEL.is_dir():
        pytest.skip(f"{MODEL} is absent; make serve fetches it")
    async with serving_process(
        "--engine", "transformers", "--model", str(MODEL), folder=folder, within=300
    ) as guard:
        yield guard


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="vllm")
async def _vllm(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    if not VLLM_PYTHON:
        pytest.skip("VLLM_PYTHON names no interpreter with vLLM; make test installs one")
    folder = tmp_path_factory.mktemp("vllm")
    async with serving_process(*VLLM, folder=folder, within=400) as guard:
        yield guard


@pytest.fixture(params=["transformers", "vllm"], name="guard")
def _guard(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def _client(guard: Serving) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=guard.url, api_key="none", max_retries=0, timeout=300)


async def test_a_chat_is_answered_and_recorded(guard: Serving) -> None:
    """A real model answers through the guard; `guard log` shows the record."""
    async with _client(guard) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="default", messages=HELLO, max_tokens=16
        )
    completion = raw.parse()
    status, out, _ = await run_guard("log", "--json", "--database", "guard.db", folder=guard.folder)

    assert completion.choices[0].message.content
    assert completion.usage is not None
    assert completion.usage.prompt_tokens > 500  # the policy is before the model
    assert status == 0
    assert raw.headers["x-guard-request-id"] in out


async def test_a_stream_is_the_same_text(guard: Serving) -> None:
    """Greedy decoding gives the same answer streamed and whole, and usage when asked."""
    ask: Any = {"model": "default", "messages": HELLO, "max_tokens": 16, "temperature": 0}
    async with _client(guard) as client:
        whole = await client.chat.completions.create(**ask)
        stream = await client.chat.completions.create(
            **ask, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert [chunk.usage is not None for chunk in chunks].count(True) == 1


async def test_choices_and_stops_work_where_the_engine_ignores_them(guard: Serving) -> None:
    """There are as many choices as n asks for, and a stop sequence cuts, on every engine."""
    async with _client(guard) as client:
        several = await client.chat.completions.create(
            model="default", messages=HELLO, max_tokens=8, n=2, temperature=0
        )
        stopped = await client.chat.completions.create(
            model="default", messages=HELLO, max_tokens=40, stop=" ", temperature=0
        )

    assert len(several.choices) == 2
    assert " " not in (stopped.choices[0].message.content or "")
    assert stopped.choices[0].finish_reason == "stop"


async def test_a_prompt_over_the_context_is_the_clients_error(guard: Serving) -> None:
    """A prompt that does not fit is a 400 and harms nobody else."""
    async with _client(guard) as client:
        with pytest.raises(BadRequestError):
            await client.chat.completions.create(
                model="default", messages=[{"role": "user", "content": "word " * 20_000}]
            )
        after = await client.chat.completions.create(model="default", messages=HELLO, max_tokens=4)

    assert after.choices


async def test_structured_output_is_refused_by_an_engine_without_grammar(transformers: Serving) -> None:
    """What transformers serve cannot enforce is a 400 naming the field."""
    async with _client(transformers) as client:
        with pytest.raises(BadRequestError) as refused:
            await client.chat.completions.parse(model="default", messages=HELLO, response_format=Step)

    assert refused.value.param == "response_format"


async def test_sampling_that_the_engine_ignores_is_said(transformers: Serving) -> None:
    """Fields that transformers serve does nothing with are named in a header."""
    async with _client(transformers) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="default", messages=HELLO, max_tokens=4, temperature=0.7, seed=1
        )

    assert raw.headers["x-guard-not-applied"] == "seed, temperature"


async def test_what_an_engine_does_not_take_is_refused(transformers: Serving) -> None:
    """Token probabilities and a salt for the cache are a 400 naming the field, not an answer without them."""
    async with _client(transformers) as client:
        asked: list[Any] = [{"logprobs": True}, {"extra_body": {"cache_salt": "c2FsdA=="}}]
        for fields in asked:
            with pytest.raises(BadRequestError) as refused:
                await client.chat.completions.create(model="default", messages=HELLO, **fields)
            assert refused.value.param in {"logprobs", "cache_salt"}


async def test_token_probabilities_of_vllm_join_to_the_answer(vllm: Serving) -> None:
    """Byte for byte, streamed and whole, with the fields of vLLM's own beside them."""
    extras = {"top_k": 5, "min_p": 0.01, "repetition_penalty": 1.05, "cache_salt": "c2FsdA=="}
    ask: Any = {"model": "default", "messages": HELLO, "max_tokens": 24, "temperature": 0}
    ask |= {"logprobs": True, "top_logprobs": 2, "extra_body": extras}
    async with _client(vllm) as client:
        whole = (await client.chat.completions.create(**ask)).choices[0]
        stream = await client.chat.completions.create(**ask, stream=True)
        chunks = [chunk.choices[0] async for chunk in stream]

    assert whole.logprobs is not None
    told = whole.logprobs.content or []
    streamed = [t for choice in chunks if choice.logprobs for t in choice.logprobs.content or ()]
    assert b"".join(bytes(token.bytes or ()) for token in told).decode() == whole.message.content
    text = "".join(choice.delta.content or "" for choice in chunks)
    assert text
    assert b"".join(bytes(token.bytes or ()) for token in streamed).decode() == text
    assert all(len(token.top_logprobs) == 2 for token in (*told, *streamed))


async def test_parse_on_vllm(vllm: Serving) -> None:
    """The grammar holds for the answer of a model that was left free to think before it."""
    async with _client(vllm) as client:
        completion = await client.chat.completions.parse(
            model="default", messages=HELLO, response_format=Step, max_tokens=100, temperature=0
        )

    assert isinstance(completion.choices[0].message.parsed, Step)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "set_timer"}}])
async def test_a_forced_tool_on_vllm(vllm: Serving, choice: Any) -> None:
    """A required and a named tool come back as a call, streamed and not."""
    ask: Any = {"model": "default", "messages": HELLO, "tools": TOOLS, "max_tokens": 60, "temperature": 0}
    async with _client(vllm) as client:
        whole = await client.chat.completions.create(**ask, tool_choice=choice)
        stream = await client.chat.completions.create(**ask, tool_choice=choice, stream=True)
        chunks = [chunk async for chunk in stream]

    calls = whole.choices[0].message.tool_calls or []
    names = [
        c.function.name for chunk in chunks for c in chunk.choices[0].delta.tool_calls or () if c.function
    ]
    assert [call.function.name for call in calls] == ["set_timer"]
    assert "set_timer" in names


async def test_the_prefix_cache_of_vllm_hits_the_policy(vllm: Serving) -> None:
    """The constant part of the prompt is computed once: a second question finds it cached."""
    counters = ("vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total")
    async with _client(vllm) as client, aiohttp.ClientSession() as session:
        for question in ("What is the capital of Norway?", "What is the capital of Peru?"):
            before = [await _metric(session, vllm, name) for name in counters]
            await client.chat.completions.create(
                model="default", messages=[{"role": "user", "content": question}], max_tokens=4
            )
        asked, hit = [
            await _metric(session, vllm, name) - was for name, was in zip(counters, before, strict=True)
        ]

    assert asked > 500
    assert hit > 0.8 * asked


async def test_vllm_stops_working_for_a_client_that_left(vllm: Serving) -> None:
    """When the client closes the connection, vLLM's running requests go to none."""
    body = {"model": "default", "messages": HELLO, "max_tokens": 4000}
    async with aiohttp.ClientSession() as session:
        asking = asyncio.create_task(session.post(f"{vllm.url}/chat/completions", json=body))
        await _running(session, vllm, 1)
        asking.cancel()
        await asyncio.wait({asking})
        await _running(session, vllm, 0)


async def _running(session: aiohttp.ClientSession, guard: Serving, count: int) -> None:
    """Wait until vLLM works on this many requests."""
    for _ in range(300):
        if await _metric(session, guard, "vllm:num_requests_running") == count:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"vLLM never had {count} running requests")


async def _metric(session: aiohttp.ClientSession, guard: Serving, name: str) -> float:
    """A figure of the engine behind a guard, whose address is in the guard's log; 0 before its first use."""
    engine = next(m[1] for line in guard.lines if (m := re.search(r"state=up url=(\S+)/v1", line)))
    async with session.get(f"{engine}/metrics") as response:
        text = await response.text()
    found = re.search(rf"^{name}\{{[^}}]*\}} ([\d.e+]+)", text, re.MULTILINE)
    return float(found[1]) if found else 0.0
