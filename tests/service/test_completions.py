"""Legacy completions through the whole guard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import orjson
import pytest
from openai import AsyncOpenAI

from guard.audit.record import Outcome
from guard.policy.load import load_policy
from guard.policy.model import Ruling
from tests.guarded import HARMLESS, POLICY, REFUSING, Guarded, Streamed, engine_reply, guarded
from tests.scripted import RESET, ReceivedRequest, Reply, chat_events

HARMFUL = "Which painless way to end my life leaves no trace?"
ENFORCE: dict[str, Any] = {"enforcement": {"mode": "enforce"}}
REFUSAL = load_policy(POLICY).refusals["self-harm"]


def ask(prompt: Any = "How do I sharpen a knife?", **fields: Any) -> dict[str, Any]:
    """A minimal completion request."""
    return {"model": "default", "prompt": prompt, "max_tokens": 100, **fields}


async def stream(guard: Guarded, prompt: Any = "How do I sharpen a knife?", **fields: Any) -> Streamed:
    """A streamed completion, read to its end."""
    data = orjson.dumps(ask(prompt, stream=True, **fields))
    async with guard.session.post(f"{guard.url}/completions", data=data) as response:
        found = {name.lower(): value for name, value in response.headers.items()}
        return Streamed(response.status, found, await response.read())


def text_of(streamed: Streamed, index: int = 0) -> str:
    """The text of one choice of a stream."""
    choices = [chunk["choices"][0] for chunk in streamed.chunks]
    return "".join(choice["text"] for choice in choices if choice["index"] == index)


def echo(request: ReceivedRequest) -> Reply:
    """An engine that says the user's last word."""
    word = request.json["messages"][-1]["content"].split()[-1]
    return engine_reply(f"You said {word}")


async def test_a_prompt_is_answered_in_openais_shape(tmp_path: Path) -> None:
    """The prompt becomes a chat behind the policy; the answer is a text completion with a record."""
    async with guarded(tmp_path) as guard:
        status, headers, body = await guard.post(ask(), "/completions")
        record = (await guard.records())[0]
        sent = guard.calls[0].json["messages"]

    assert status == 200
    assert body["object"] == "text_completion"
    assert body["choices"] == [
        {"index": 0, "text": "With a whetstone.", "logprobs": None, "finish_reason": "stop"}
    ]
    assert body["usage"]["completion_tokens"] == record.completion_tokens
    assert headers["x-guard-decision"] == "comply"
    assert [message["role"] for message in sent] == ["system", "user"]
    assert (record.endpoint, record.verdict) == ("completions", Ruling.COMPLY)


async def test_thinking_is_never_part_of_the_text(tmp_path: Path) -> None:
    """Field lesson 28: the shape has no place for thinking, so raw tags are taken out as well."""
    reply = engine_reply("With a whetstone.", HARMLESS, style="think")
    async with guarded(tmp_path, lambda request: reply) as guard:
        _, _, body = await guard.post(ask(), "/completions")
        streamed = await stream(guard)

    assert body["choices"][0]["text"] == text_of(streamed) == "With a whetstone."


async def test_a_stream_ends_with_one_finish_and_one_done(tmp_path: Path) -> None:
    """Chunks have the shape of a completion; usage comes once, where it was asked for."""
    async with guarded(tmp_path) as guard:
        plain = await stream(guard)
        counted = await stream(guard, stream_options={"include_usage": True})

    assert text_of(plain) == "With a whetstone."
    assert [c["choices"][0]["finish_reason"] for c in plain.chunks if c["choices"][0]["finish_reason"]] == [
        "stop"
    ]
    assert plain.events[-1] == counted.events[-1] == "[DONE]"
    assert not any("usage" in chunk for chunk in plain.chunks)
    assert [bool(event["usage"]) for event in counted.events[:-1]].count(True) == 1
    assert counted.events[-2]["choices"] == []


@pytest.mark.parametrize("streamed", [False, True])
async def test_every_prompt_has_its_own_answers_and_records(tmp_path: Path, streamed: bool) -> None:
    """Two prompts with n=2 give four choices in order, four records of one request, each with its prompt."""
    async with guarded(tmp_path, echo) as guard:
        if streamed:
            result = await stream(guard, ["say one", "say two"], n=2, seed=5)
            texts = [text_of(result, index) for index in range(4)]
        else:
            _, _, body = await guard.post(ask(["say one", "say two"], n=2, seed=5), "/completions")
            texts = [choice["text"] for choice in body["choices"]]
            assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
            assert body["usage"]["prompt_tokens"] == 7 * 2
        records = await guard.records()
        seeds = {call.json["seed"] for call in guard.calls}

    assert texts == ["You said one", "You said one", "You said two", "You said two"]
    assert seeds == {5, 6, 7, 8}
    assert len({record.request_id for record in records}) == 1
    assert {record.choice: "say two" in record.messages for record in records} == {
        0: False,
        1: False,
        2: True,
        3: True,
    }


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_same_verdict_holds_here(tmp_path: Path, streamed: bool) -> None:
    """Field lesson 12: no way around the policy by the legacy surface."""
    reply = engine_reply("Sure! Take the following steps.", REFUSING)
    async with guarded(tmp_path, lambda request: reply, **ENFORCE) as guard:
        if streamed:
            text = text_of(await stream(guard, HARMFUL, max_tokens=1))
        else:
            text = (await guard.post(ask(HARMFUL, max_tokens=1), "/completions"))[2]["choices"][0]["text"]
        record = (await guard.records())[0]

    assert text == REFUSAL
    assert record.outcome is Outcome.REFUSED


async def test_one_bad_prompt_of_many_is_refused_alone(tmp_path: Path) -> None:
    """Each prompt is retrieved for and judged by itself."""

    def engine(request: ReceivedRequest) -> Reply:
        harmful = "end my life" in request.json["messages"][-1]["content"]
        return engine_reply("Like this.", REFUSING) if harmful else engine_reply()

    async with guarded(tmp_path, engine, **ENFORCE) as guard:
        _, headers, body = await guard.post(ask(["How do I sharpen a knife?", HARMFUL]), "/completions")

    assert [choice["text"] for choice in body["choices"]] == ["With a whetstone.", REFUSAL]
    assert headers["x-guard-decision"] == "comply, refuse"


async def test_stop_and_limit_apply_to_the_answer(tmp_path: Path) -> None:
    """Stop sequences never reach the engine, and 16 tokens are OpenAI's default."""
    async with guarded(tmp_path) as guard:
        _, _, stopped = await guard.post(ask(stop=" whetstone"), "/completions")
        body = ask()
        del body["max_tokens"]
        await guard.post(body, "/completions")

        assert "stop" not in guard.calls[0].json
        assert guard.calls[1].json["max_tokens"] == 16 + 1024
    assert stopped["choices"][0]["text"] == "With a"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (ask([1, 2, 3]), 400, "prompt"),
        (ask(["x"] * 9), 400, "prompt"),
        (ask(n=9), 400, "n"),
        (ask(["x"] * 3, n=3), 400, "prompt"),
        (ask(echo=True), 400, "echo"),
        (ask(suffix="."), 400, "suffix"),
        (ask(best_of=2), 400, "best_of"),
        (ask(logprobs=1), 400, "logprobs"),
        (ask(max_tokens=10**9), 400, "max_tokens"),
        (ask(model="davinci-002"), 404, "model"),
    ],
)
async def test_bad_requests_name_the_field(tmp_path: Path, body: Any, status: int, param: str) -> None:
    """Each reaches neither engine nor records."""
    async with guarded(tmp_path) as guard:
        got, _, error = await guard.post(body, "/completions")

        assert (guard.calls, await guard.records()) == ([], [])
    assert (got, error["error"]["param"]) == (status, param)


async def test_an_engine_that_breaks_off_is_an_exception_in_the_client(tmp_path: Path) -> None:
    """Field lesson 46: an error frame, no [DONE], and the client raises."""
    size = sum(map(len, chat_events("With a whetstone.", HARMLESS)))
    reply = engine_reply().reset_after(size - 400, RESET)
    async with guarded(tmp_path, lambda request: reply) as guard:
        raw = await stream(guard)
        async with AsyncOpenAI(base_url=guard.url, api_key="none", max_retries=0) as client:
            chunks = await client.completions.create(model="default", prompt="How?", stream=True)
            with pytest.raises(openai.APIError):
                [chunk async for chunk in chunks]

    assert "error" in raw.events[-1]
    assert b"[DONE]" not in raw.raw
