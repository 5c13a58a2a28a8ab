"""The client and the capability table against the real engines.

    GUARD_TEST_MODEL    a checkpoint folder; models/smollm2-135m-instruct when unset
    VLLM_PYTHON         an interpreter that has vLLM; its tests are skipped when unset

Each engine is started once, by a process of its own that is ended with ``kill -9`` at the end; that
nothing is left of it then is part of the contract.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import psutil
import pytest
import pytest_asyncio

from guard.errors import ApiError, InvalidRequest, Overloaded, UpstreamError
from guard.upstream.capabilities import CAPABILITIES, Capabilities, EngineKind
from guard.upstream.client import Upstream
from guard.upstream.command import EngineSpec
from guard.upstream.engine import Engine, EngineState, RestartPolicy
from guard.upstream.text_runs import Chunk
from tests.contract import engine_owner

ROOT = Path(__file__).parents[2]
MODEL = Path(os.environ.get("GUARD_TEST_MODEL") or ROOT / "models" / "smollm2-135m-instruct")
VLLM_PYTHON = os.environ.get("VLLM_PYTHON")

pytestmark = [
    pytest.mark.engine,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(
        not (MODEL / "config.json").exists(), reason=f"no model in {MODEL} (GUARD_TEST_MODEL)"
    ),
]


@dataclass(frozen=True)
class Served:
    """A running engine, its client and what the table says of it."""

    kind: EngineKind
    upstream: Upstream
    can: Capabilities

    async def ask(self, content: str = "Count from one to twenty.", **fields: Any) -> list[Chunk]:
        """The chunks of one answer, greedy and short unless told otherwise."""
        return [chunk async for chunk in self.upstream.chat(self.body(content, **fields))]

    def body(self, content: str, **fields: Any) -> dict[str, Any]:
        """A request; a field of None is left out."""
        message = {"role": "user", "content": content}
        body = {
            "model": str(MODEL),
            "messages": [message],
            "stream": True,
            "max_tokens": 24,
            "temperature": 0,
            "stream_options": {"include_usage": True},
            **fields,
        }
        return {name: value for name, value in body.items() if value is not None}


def text(chunks: list[Chunk]) -> str:
    """The visible text of an answer with one choice."""
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


async def until(condition: Any) -> None:
    """Wait for an awaitable condition; a test that hangs here has failed."""
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.1)


@pytest_asyncio.fixture(name="served", scope="module", loop_scope="module", params=["transformers", "vllm"])
async def _served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Served]:
    kind: EngineKind = request.param
    if kind == "vllm" and not VLLM_PYTHON:
        pytest.skip("no interpreter with vLLM (VLLM_PYTHON)")
    python = VLLM_PYTHON if kind == "vllm" and VLLM_PYTHON else sys.executable
    log = tmp_path_factory.mktemp(kind) / "engine.log"
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, engine_owner.__file__, kind, python, str(MODEL), str(log)),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "VLLM_CPU_KVCACHE_SPACE": "1"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert owner.stdout is not None
    address = (await owner.stdout.readline()).decode().strip()
    assert address, "the engine did not start; see above"
    upstream = Upstream(address)
    await upstream.start()
    yield Served(kind, upstream, CAPABILITIES[kind])
    await upstream.close()

    below = psutil.Process(owner.pid).children(recursive=True)
    assert len(below) >= 2, "a supervisor and an engine"
    owner.kill()
    await owner.wait()
    _, left = await asyncio.to_thread(psutil.wait_procs, below, timeout=30)
    assert left == []


async def test_the_engine_is_well_and_lists_its_model(served: Served) -> None:
    """Health and model list are understood; the model is listed under its path."""
    assert await served.upstream.healthy()
    assert [entry["id"] for entry in await served.upstream.models()] == [str(MODEL)]


async def test_an_answer_is_whole(served: Served) -> None:
    """A role, text, a finish reason for the cut answer, and usage that counts its tokens."""
    chunks = await served.ask(max_tokens=8)

    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert choices[0]["delta"]["role"] == "assistant"
    assert [c["finish_reason"] for c in choices if c.get("finish_reason")] == ["length"]
    assert text(chunks)
    assert served.can.reports_usage
    assert chunks[-1]["usage"]["completion_tokens"] == 8


async def test_how_a_stream_ends(served: Served) -> None:
    """[DONE] and unasked usage are as the table says."""
    async with aiohttp.ClientSession() as session:
        body = served.body("Hi.", max_tokens=2, stream_options=None)
        url = served.upstream.base_url + "/chat/completions"
        async with session.post(url, json=body) as response:
            raw = await response.read()

    assert raw.endswith(b"data: [DONE]\n\n") is served.can.sends_done
    assert (b'"usage":{' in raw) is served.can.ignores_stream_options


async def test_n(served: Served) -> None:
    """Two choices come where the table says that ``n`` counts."""
    chunks = await served.ask(n=2, temperature=1)

    indexes = {choice["index"] for chunk in chunks for choice in chunk["choices"]}
    assert indexes == ({0} if served.can.ignores_n else {0, 1})


async def test_stop(served: Served) -> None:
    """A stop sequence ends the answer where the table says so."""
    whole = text(await served.ask())
    stop = whole.split()[3]
    cut = text(await served.ask(stop=[stop]))

    assert (stop in cut) is served.can.ignores_stop
    assert (cut == whole) is served.can.ignores_stop


async def test_sampling(served: Served) -> None:
    """Temperature and seed change the answer where the table says so."""
    answers = {text(await served.ask(temperature=1.5, seed=seed)) for seed in (1, 2, 3)}

    assert (len(answers) == 1) is ("temperature" in served.can.lacks)


async def test_the_model_field(served: Served) -> None:
    """Leaving the model out, or naming another, has the effect the table says."""
    if served.can.needs_model_field:
        with pytest.raises(ApiError):
            await served.ask(model=None)
    else:
        assert text(await served.ask(model=None))
    assert served.can.checks_model_field
    with pytest.raises(ApiError):
        await served.ask(model="another")


async def test_structured_outputs(served: Served) -> None:
    """A JSON schema constrains the answer where the table says so."""
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "c", "schema": schema}}
    answer = text(await served.ask("A colour?", response_format=wanted))

    if served.can.structured_outputs:
        assert orjson.loads(answer)["colour"] in {"red", "blue"}
    else:
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(answer)


async def test_continuing_an_assistant_message(served: Served) -> None:
    """An answer that was begun is gone on with where the table says so."""
    messages = [
        {"role": "user", "content": "Count from one to ten in words."},
        {"role": "assistant", "content": "One, two, three, four,"},
    ]
    fields = {"continue_final_message": True, "add_generation_prompt": False}
    if served.can.continue_final_message:
        assert "five" in text(await served.ask("", messages=messages, **fields)).split(",")[0]
    else:
        with pytest.raises(InvalidRequest, match="continue_final_message"):
            await served.ask("", messages=messages, **fields)


async def test_fields_beyond_openai(served: Served) -> None:
    """Each is accepted, or refused with its name; what even vLLM does not know it drops without a word."""
    fields: dict[str, Any] = {
        "top_k": 5,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "cache_salt": "c2FsdA==",
        "priority": 0,
    }
    for name, value in fields.items():
        if name in served.can.lacks:
            with pytest.raises(InvalidRequest, match=name):
                await served.ask(**{name: value})
        else:
            assert text(await served.ask(**{name: value}))
    assert text(await served.ask(chat_template_kwargs={"date_string": "26 Jul 2026"}))
    if served.kind == "vllm":
        assert text(await served.ask(include_reasoning=True, no_such_field=1))


async def test_fields_that_change_nothing(served: Served) -> None:
    """A greedy answer is the same with and without what the engine does nothing with."""
    plain = text(await served.ask())
    unused: dict[str, Any] = {"reasoning_effort": "low", "parallel_tool_calls": False}
    for name, value in unused.items():
        if name in served.can.lacks:
            assert text(await served.ask(**{name: value})) == plain, name


async def test_token_probabilities(served: Served) -> None:
    """They come where the table says so, and their tokens join to the text."""
    chunks = await served.ask(logprobs=True, top_logprobs=2)
    told = [c["logprobs"] for chunk in chunks for c in chunk["choices"] if c.get("logprobs")]
    joined = b"".join(bytes(entry["bytes"]) for one in told for entry in one["content"])

    assert bool(told) is ("logprobs" not in served.can.lacks)
    assert not told or joined.decode().startswith(text(chunks))


async def test_a_request_without_messages_is_the_callers_mistake(served: Served) -> None:
    """An invalid request becomes an error, whichever way the engine says it."""
    with pytest.raises((InvalidRequest, UpstreamError)):
        await served.ask("", messages=None)


async def test_many_streams_at_once(served: Served) -> None:
    """Twenty answers at once are all whole and all their own."""
    asked = [served.ask(f"Say the number {n}.", max_tokens=8) for n in range(20)]

    answers = await asyncio.gather(*asked)

    assert [chunks[-1]["usage"]["completion_tokens"] > 0 for chunks in answers] == [True] * 20


async def running(served: Served) -> int:
    """How many requests vLLM is working on, from its metrics."""
    url = served.upstream.base_url.removesuffix("/v1") + "/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        lines = (await response.text()).splitlines()
    [line] = [line for line in lines if line.startswith("vllm:num_requests_running")]
    return int(float(line.rsplit(" ", 1)[1]))


async def test_leaving_a_stream_stops_the_engine(served: Served) -> None:
    """An engine whose caller closed the generator works on nothing any more."""
    if served.kind != "vllm":
        pytest.skip("transformers serve has no metrics to see it by")

    async def is_running() -> bool:
        return await running(served) == 1

    async def is_idle() -> bool:
        return await running(served) == 0

    body = served.body("Tell a very long story.", max_tokens=4000, ignore_eos=True)
    async with aclosing(served.upstream.chat(body)) as chunks:
        await anext(chunks)
        await until(is_running)

    await until(is_idle)


async def test_vllm_refuses_a_prompt_beyond_the_context(served: Served) -> None:
    """VLLM measures prompts itself; the client learns how long it may be."""
    if served.kind != "vllm":
        pytest.skip("transformers serve measures nothing; see the next test")
    assert served.can.enforces_context

    with pytest.raises(InvalidRequest, match="context length"):
        await served.ask("word " * 10_000)


async def test_transformers_takes_any_prompt_until_it_dies_of_one(tmp_path: Path) -> None:
    """No prompt is too long for transformers, and one beyond its cache ends it until the restart."""
    assert not CAPABILITIES["transformers"].enforces_context
    assert CAPABILITIES["transformers"].dies_of_long_requests
    short = tmp_path / "model"
    short.mkdir()
    for file in MODEL.iterdir():
        (short / file.name).symlink_to(file)
    config = orjson.loads((MODEL / "config.json").read_bytes())
    (short / "config.json").unlink()
    (short / "config.json").write_bytes(orjson.dumps({**config, "max_position_embeddings": 256}))
    engine = Engine(
        EngineSpec("transformers", str(short), args=("--cb-num-blocks", "2")),
        log=tmp_path / "engine.log",
        restarts=RestartPolicy(first_pause=0.1, health_interval=0.5, sick_checks=2),
    )
    await engine.start()
    upstream = Upstream(engine.base_url)
    await upstream.start()
    served = Served("transformers", upstream, engine.spec.capabilities)

    chunks = await served.ask("word " * 300, model=None, max_tokens=1)
    with pytest.raises(UpstreamError):
        await served.ask("word " * 1000, model=None)
    with pytest.raises((Overloaded, UpstreamError)):
        await served.ask("Hi.", model=None)

    async def is_back() -> bool:
        return engine.starts == 2 and engine.state is EngineState.READY

    await until(is_back)
    assert chunks[-1]["usage"]["prompt_tokens"] > 256
    assert text(await served.ask("Hi.", model=None))
    await upstream.close()
    await engine.stop()
