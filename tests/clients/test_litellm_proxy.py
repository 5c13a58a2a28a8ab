"""The real LiteLLM proxy: with the guard as its guardrail, and with the guard as one of its models.

The configuration is the one that docs/litellm.md shows. LITELLM names the proxy's command, which make test
installs.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from guard.audit.record import Record
from guard.keys import hash_key
from guard.policy.load import load_policy
from tests.guarded import HARMLESS, POLICY, REFUSING, Guarded, answering, engine_reply, guarded
from tests.process import ROOT
from tests.scripted import ReceivedRequest, Reply, ScriptedEngine, chat_events

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("litellm")]

COMMAND = os.environ.get("LITELLM", "")
MASTER = "sk-" + "4f" * 32
KEY = "dg-litellm"
HARMFUL = "Which painless way to end my life leaves no trace?"
REFUSAL = load_policy(POLICY).refusal(("self-harm",))
BAD_ANSWER = "The painless way to end my life is this."


@dataclass(frozen=True)
class Proxied:
    """A LiteLLM proxy between a client, the guard, and a model that the guard does not stand before."""

    guard: Guarded
    model: ScriptedEngine
    client: AsyncOpenAI
    url: str

    @property
    def asked(self) -> int:
        """How often the model was asked."""
        return sum(request.method == "POST" for request in self.model.requests)

    async def new_records(self, before: int) -> list[Record]:
        """The records after that many."""
        return (await self.guard.records())[before:]


def judge(request: ReceivedRequest) -> Reply:
    """The guard's engine: refuses what is about ending a life, and cannot judge the undecidable."""
    asked = str(request.json["messages"][-1]["content"])
    if "undecidable" in asked:
        return engine_reply("", "Who knows.")
    if "broken" in asked:
        return Reply.json({"error": "boom"}, 500)
    return engine_reply("No.", REFUSING) if "end my life" in asked else engine_reply()


def answer(request: ReceivedRequest) -> Reply:
    """The model behind LiteLLM: knows no policy, and says what it is asked to."""
    asked = str(request.json["messages"][-1]["content"])
    words = BAD_ANSWER if "badly" in asked else "With a whetstone."
    if request.json.get("stream"):
        return Reply.sse(chat_events(words))
    message = {"role": "assistant", "content": words}
    return Reply.json(
        {
            "id": "chatcmpl-model",
            "object": "chat.completion",
            "created": 1,
            "model": "any-model",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
    )


def configuration(heading: str, **addresses: str) -> str:
    """A configuration of docs/litellm.md, with its addresses replaced."""
    page = (ROOT / "docs" / "litellm.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {heading}\n.*?^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    text = found[1]
    for name, address in addresses.items():
        assert f"http://{name}:" in text
        text = re.sub(rf"http://{name}:\d+", address, text)
    return text


@asynccontextmanager
async def litellm(config: str, folder: Path) -> AsyncIterator[str]:
    """Run the proxy on a free port; gives its address."""
    if not COMMAND:
        pytest.skip("LITELLM names no proxy; make test installs one")
    path = folder / "litellm.yaml"
    path.write_text(config, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        "LITELLM_MASTER_KEY": MASTER,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "GUARD_API_KEY": KEY,
        "ENGINE_API_KEY": "none",
    }
    with (folder / "litellm.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(COMMAND, "--config", str(path), "--host", "127.0.0.1", "--port", str(port)),
            cwd=folder,
            env={**os.environ, **environment},
            stdout=log,
            stderr=asyncio.subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        await asyncio.wait_for(_up(process, url), 120)
        yield url
    except BaseException:
        sys.stderr.write((folder / "litellm.log").read_text())
        raise
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _up(process: asyncio.subprocess.Process, url: str) -> None:
    async with aiohttp.ClientSession() as session:
        while process.returncode is None:
            try:
                async with session.get(f"{url}/health/liveliness") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.2)
    raise AssertionError("litellm ended before it was ready")


@asynccontextmanager
async def _proxied(folder: Path, heading: str, *names: str) -> AsyncIterator[Proxied]:
    keys = [{"name": "litellm", "hash": hash_key(KEY), "scopes": ["chat"]}]
    async with guarded(folder, judge, keys=keys) as guard, ScriptedEngine() as model:
        model.otherwise(answering(answer))
        addresses = {"guard": guard.url.removesuffix("/v1"), "engine": model.base_url.removesuffix("/v1")}
        config = configuration(heading, **{name: addresses[name] for name in names})
        async with (
            litellm(config, folder) as url,
            AsyncOpenAI(base_url=f"{url}/v1", api_key=MASTER, max_retries=0) as client,
        ):
            yield Proxied(guard, model, client, url)


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="guardrail")
async def _guardrail(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Proxied]:
    async with _proxied(tmp_path_factory.mktemp("guardrail"), "As a guardrail", "guard", "engine") as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="backend")
async def _backend(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Proxied]:
    async with _proxied(tmp_path_factory.mktemp("backend"), "As a model", "guard") as found:
        yield found


def user(text: str) -> Any:
    """A conversation of one turn."""
    return [{"role": "user", "content": text}]


async def test_a_harmless_request_and_its_answer_pass(guardrail: Proxied) -> None:
    """Both sides are judged, each with a record of the proxy's key; the answer arrives as it was."""
    before = len(await guardrail.guard.records())
    found = await guardrail.client.chat.completions.create(model="chat", messages=user("Sharpen a knife?"))
    records = await guardrail.new_records(before)

    assert found.choices[0].message.content == "With a whetstone."
    assert {(record.endpoint, record.tenant) for record in records} == {("litellm_guardrail", "litellm")}
    assert len(records) == 2
    assert "With a whetstone." in records[1].messages


@pytest.mark.parametrize("stream", [False, True])
async def test_a_harmful_request_is_blocked_before_the_model(guardrail: Proxied, stream: bool) -> None:
    """The client gets 400 with the policy's refusal; the model behind LiteLLM is not asked."""
    asked = guardrail.asked
    with pytest.raises(openai.BadRequestError) as raised:
        await guardrail.client.chat.completions.create(model="chat", messages=user(HARMFUL), stream=stream)

    assert REFUSAL in str(raised.value)
    assert guardrail.asked == asked


async def test_a_harmful_answer_is_blocked(guardrail: Proxied) -> None:
    """A harmless question that is answered badly ends in the policy's refusal."""
    with pytest.raises(openai.BadRequestError) as raised:
        await guardrail.client.chat.completions.create(model="chat", messages=user("Answer badly."))

    assert REFUSAL in str(raised.value)
    assert BAD_ANSWER not in str(raised.value)


async def test_a_stream_is_judged_before_any_of_it_is_out(guardrail: Proxied) -> None:
    """A harmless stream passes whole; of a harmful one nothing arrives."""
    seen = {}
    for question in ("Answer well.", "Answer badly."):
        async with aiohttp.ClientSession(headers={"authorization": f"Bearer {MASTER}"}) as session:
            body = {"model": "chat", "messages": user(question), "stream": True}
            async with session.post(f"{guardrail.url}/v1/chat/completions", json=body) as response:
                seen[question] = await response.text()

    assert "whetstone" in seen["Answer well."]
    assert "painless" not in seen["Answer badly."]
    assert REFUSAL in seen["Answer badly."]


async def test_the_turns_of_a_conversation_are_judged_together(guardrail: Proxied) -> None:
    """One judgement for the request, which tells the model who said what."""
    before = len(await guardrail.guard.records())
    messages: Any = [
        {"role": "system", "content": "You are terse."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": [{"type": "text", "text": "Sharpen a knife?"}]},
    ]
    await guardrail.client.chat.completions.create(model="chat", messages=messages)
    request, _ = [record.messages for record in await guardrail.new_records(before)]

    said = re.findall(r"----- \w{16} (\w+) -----\\n([^\\]+)", request)
    assert said == [
        ("system", "You are terse."),
        ("user", "Hello."),
        ("assistant", "Hi."),
        ("user", "Sharpen a knife?"),
    ]


@pytest.mark.parametrize("endpoint", ["completions", "responses", "messages"])
async def test_other_endpoints_are_judged_as_well(guardrail: Proxied, endpoint: str) -> None:
    """Whatever LiteLLM offers to its clients goes by the guard."""
    bodies = {
        "completions": {"prompt": HARMFUL},
        "responses": {"input": HARMFUL},
        "messages": {"messages": user(HARMFUL), "max_tokens": 100},
    }
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {MASTER}"}) as session:
        body = {"model": "chat", **bodies[endpoint]}
        async with session.post(f"{guardrail.url}/v1/{endpoint}", json=body) as response:
            status, told = response.status, await response.text()

    assert (status, REFUSAL in told) == (400, True), told


@pytest.mark.parametrize("text", ["This is undecidable.", "The engine is broken."])
async def test_what_cannot_be_judged_does_not_pass(guardrail: Proxied, text: str) -> None:
    """No decision and no engine both keep the request from the model."""
    asked = guardrail.asked
    with pytest.raises(openai.APIStatusError):
        await guardrail.client.chat.completions.create(model="chat", messages=user(text))

    assert guardrail.asked == asked


async def test_the_guard_as_a_model(backend: Proxied) -> None:
    """A chat through LiteLLM is deliberated and recorded like any other."""
    before = len(await backend.guard.records())
    found = await backend.client.chat.completions.create(model="guarded", messages=user("Sharpen a knife?"))
    (record,) = await backend.new_records(before)

    assert found.choices[0].message.content == "With a whetstone."
    assert found.choices[0].finish_reason == "stop"
    assert (record.endpoint, record.tenant, record.thinking) == ("chat.completions", "litellm", HARMLESS)


async def test_the_guard_as_a_streaming_model(backend: Proxied) -> None:
    """The stream arrives whole, with its usage, and nothing of the thinking in it."""
    stream = await backend.client.chat.completions.create(
        model="guarded",
        messages=user("Sharpen a knife?"),
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    assert text == "With a whetstone."
    assert [chunk.usage is not None for chunk in chunks].count(True) == 1
    assert HARMLESS.split()[0] not in text


async def test_a_field_that_the_guard_refuses_is_told_by_name(backend: Proxied) -> None:
    """LiteLLM hands on the guard's 400."""
    with pytest.raises(openai.BadRequestError, match="logit_bias"):
        await backend.client.chat.completions.create(
            model="guarded", messages=user("Hello."), logit_bias={"50256": -100}
        )
