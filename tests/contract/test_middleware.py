"""The guard inside a real vLLM, put there with ``--middleware guard.asgi.GuardMiddleware``.

vLLM gets a key of its own, so that its authentication stands between the guard and its routes: what
reaches one of them came through the guard. At the end it is stopped as an operator stops it.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from openai import AsyncOpenAI, NotFoundError

from guard.audit.query import Filter, find
from guard.audit.record import Outcome, Record
from guard.audit.store import AuditStore
from guard.upstream.command import EngineSpec, command, environment, free_port
from tests.process import ROOT

MODEL = Path(os.environ.get("GUARD_TEST_MODEL", ROOT / "models" / "smollm2-135m-instruct")).absolute()
VLLM_PYTHON = os.environ.get("VLLM_PYTHON", "")
START_SECONDS = 900
HELLO: Any = [{"role": "user", "content": "How do I sharpen a kitchen knife?"}]

pytestmark = [
    pytest.mark.engine,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("engines"),
    pytest.mark.skipif(not VLLM_PYTHON, reason="VLLM_PYTHON names no interpreter with vLLM"),
    pytest.mark.skipif(not MODEL.is_dir(), reason=f"no model in {MODEL} (GUARD_TEST_MODEL)"),
]

SETTINGS = """
[engine]
upstream_key_env = "VLLM_API_KEY"
"""


@dataclass(frozen=True)
class Guarded:
    """A running vLLM with the guard in it."""

    root: str
    folder: Path
    log: Path
    session: aiohttp.ClientSession

    @property
    def client(self) -> AsyncOpenAI:
        """OpenAI's SDK, without a key that anybody knows."""
        return AsyncOpenAI(base_url=f"{self.root}/v1", api_key="none", max_retries=0, timeout=300)

    async def running(self) -> int:
        """How many requests vLLM works on."""
        text = await self.metrics()
        found = re.search(r"^vllm:num_requests_running\{[^}]*\} (\d+)", text, re.MULTILINE)
        assert found, text
        return int(found[1])

    async def metrics(self) -> str:
        """VLLM's own metrics."""
        async with self.session.get(f"{self.root}/engine/metrics") as response:
            assert response.status == 200
            return await response.text()

    async def records(self) -> list[Record]:
        """Every record, newest first."""
        store = await AuditStore.open(str(self.folder / "var" / "guard.db"))
        try:
            return await find(store, Filter(limit=1000))
        finally:
            await store.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="vllm")
async def _vllm(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    folder = tmp_path_factory.mktemp("middleware")
    config, log, port = folder / "guard.toml", folder / "vllm.log", free_port()
    config.write_text(SETTINGS)
    spec = EngineSpec(
        "vllm",
        str(MODEL),
        VLLM_PYTHON,
        args=("--middleware", "guard.asgi.GuardMiddleware"),
        env={"GUARD_CONFIG": str(config), "VLLM_API_KEY": "its-own", "PYTHONPATH": str(ROOT)},
    )
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command(spec, port), env=environment(spec), cwd=folder, stdout=output, stderr=output
        )
    async with aiohttp.ClientSession() as session:
        guarded = Guarded(f"http://127.0.0.1:{port}", folder, log, session)
        try:
            await _ready(guarded, process)
            yield guarded
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 60) == 0
            assert not (folder / "var" / "guard.db-wal").exists()  # the guard was stopped, not dropped
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _ready(guarded: Guarded, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(START_SECONDS):
        while process.returncode is None:
            try:
                async with guarded.session.get(f"{guarded.root}/readyz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.5)
    raise AssertionError(f"vLLM ended before it was ready:\n{guarded.log.read_text()[-4000:]}")


async def test_a_chat_is_deliberated_and_recorded(vllm: Guarded) -> None:
    """A real model answers behind the policy; the record is in the database of the guard."""
    async with vllm.client as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="default", messages=HELLO, max_tokens=16
        )
    completion = raw.parse()

    assert completion.choices[0].message.content
    assert completion.usage is not None
    assert completion.usage.prompt_tokens > 500  # the policy is before the model
    assert raw.headers["x-guard-request-id"] in {record.request_id for record in await vllm.records()}


async def test_a_stream_is_the_same_text(vllm: Guarded) -> None:
    """Greedy decoding gives the same answer streamed and whole, in more than one piece."""
    ask: Any = {"model": "default", "messages": HELLO, "max_tokens": 16, "temperature": 0}
    async with vllm.client as client:
        whole = await client.chat.completions.create(**ask)
        stream = await client.chat.completions.create(**ask, stream=True)
        chunks = [chunk async for chunk in stream]

    pieces = [text for chunk in chunks if chunk.choices and (text := chunk.choices[0].delta.content)]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len(pieces) > 4


async def test_the_model_has_no_path(vllm: Guarded) -> None:
    """The guard has learnt the model's name from vLLM and shows it without its folder."""
    async with vllm.client as client:
        names = [model.id async for model in client.models.list()]

    assert names == ["default", MODEL.name]


@pytest.mark.parametrize("stream", [False, True])
async def test_vllm_stops_working_for_a_client_that_left(vllm: Guarded, stream: bool) -> None:
    """When the client closes the connection, vLLM's running requests go to none, and the record says so."""
    body = {"model": "default", "messages": HELLO, "max_tokens": 4000, "stream": stream}

    async def ask() -> None:
        async with vllm.session.post(f"{vllm.root}/v1/chat/completions", json=body) as response:
            await response.read()

    asking = asyncio.create_task(ask())
    await _until_running(vllm, 1)
    asking.cancel()
    await asyncio.wait({asking})
    await _until_running(vllm, 0)

    async with asyncio.timeout(10):
        while (await vllm.records())[0].outcome is not Outcome.DISCONNECTED:
            await asyncio.sleep(0.1)


async def _until_running(vllm: Guarded, count: int) -> None:
    async with asyncio.timeout(60):
        while await vllm.running() != count:
            await asyncio.sleep(0.1)


async def test_no_route_of_vllm_is_reached_but_those_let_through(vllm: Guarded) -> None:
    """Of the routes that vLLM lists at its start, all that the guard does not serve itself are 404."""
    listed = set(re.findall(r"Route: (/\S*), ", vllm.log.read_text()))
    before = await _tokens(vllm)
    reached = set()
    for path in sorted(listed):
        for method in ("GET", "POST", "DELETE"):
            address = vllm.root + path.replace("{", "").replace("}", "")
            async with vllm.session.request(
                method, address, json={"prompt": "Hi.", "input": "Hi."}
            ) as answer:
                if answer.status != 404:
                    reached.add(path)

    assert {"/tokenize", "/v1/chat/completions/render", "/inference/v1/generate", "/invocations"} <= listed
    assert reached <= {
        *("/health", "/ping", "/version", "/metrics", "/openapi.json"),
        *("/v1/models", "/v1/chat/completions", "/v1/completions", "/v1/messages"),
        *("/v1/messages/count_tokens", "/v1/responses", "/v1/responses/{response_id}"),
        *("/v1/responses/{response_id}/cancel", "/v1/responses/render"),  # to the guard an id like any
    }
    assert await _tokens(vllm) == before


async def _tokens(vllm: Guarded) -> str:
    """VLLM's count of all prompt tokens it was ever given."""
    found = re.search(r"^vllm:prompt_tokens_total\{[^}]*\} (\S+)", await vllm.metrics(), re.MULTILINE)
    assert found
    return found[1]


async def test_vllms_own_key_opens_nothing(vllm: Guarded) -> None:
    """Whoever knows it still meets the guard first, which stands outside vLLM's authentication."""
    async with AsyncOpenAI(base_url=vllm.root, api_key="its-own", max_retries=0) as client:
        with pytest.raises(NotFoundError, match="no route POST /tokenize"):
            await client.post("/tokenize", body={"prompt": "Hi."}, cast_to=object)
