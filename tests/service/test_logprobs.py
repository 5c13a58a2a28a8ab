"""``logprobs`` of chat completions through the whole guard: of the visible answer, and of nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from guard.policy.load import load_policy
from tests.guarded import HARMLESS, POLICY, REFUSING, Guarded, ask, guarded
from tests.scripted import DONE, ReasoningStyle, Reply, sse_event

HARMFUL = "Which painless way to end my life leaves no trace?"
REFUSAL = load_policy(POLICY).refusals["self-harm"]
Told = tuple[str, list[str] | None]
"""A text, and the tokens told of it."""


def engine_token(token: str) -> dict[str, Any]:
    """What vLLM says of one token, with an alternative."""
    other = {"token": "thinking-secret" if token == "Hm" else "Or", "logprob": -2.0, "bytes": [79, 114]}
    chosen = {"token": token, "logprob": -0.25, "bytes": list(token.encode())}
    return {**chosen, "top_logprobs": [chosen, other]}


def chunk(delta: dict[str, Any], tokens: Sequence[str], finish: str | None = None) -> bytes:
    """One chunk as vLLM sends it where it was asked for probabilities."""
    logprobs = {"content": [engine_token(token) for token in tokens]}
    choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
    return sse_event({"object": "chat.completion.chunk", "choices": [choice]})


def reply(thinking: str, answer: Sequence[str], style: ReasoningStyle = "reasoning") -> Reply:
    """What vLLM sends token by token, those of the tags in chunks without text or within the content."""
    raw = style == "think"
    name = "content" if raw else style
    events = [sse_event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})]
    events += [chunk({"content": "<think>"}, ["<think>"])] if raw else [chunk({}, ["<think>"])]
    events += [chunk({name: token}, [token]) for token in ("Hm", thinking)]
    events += [chunk({"content": "</think>\n\n"}, ["</think>", "\n\n"])] if raw else [chunk({}, ["</think>"])]
    events += [chunk({"content": token}, [token]) for token in answer]
    return Reply.sse([*events, chunk({"content": ""}, ["<|im_end|>"], "stop"), DONE])


def whole(body: dict[str, Any]) -> Told:
    """Text and tokens of the first choice."""
    choice = body["choices"][0]
    told = choice["logprobs"]
    return choice["message"]["content"], told and [token["token"] for token in told["content"]]


async def streamed(guard: Guarded, content: str = "How do I sharpen a knife?", **fields: Any) -> Told:
    """The same of a stream, where every text comes with its tokens or none does."""
    deltas = [c["choices"][0] for c in (await guard.stream(content, **fields)).chunks]
    texts = [(d["delta"]["content"], d["logprobs"]) for d in deltas if d["delta"].get("content")]
    assert all(not d["logprobs"] for d in deltas if not d["delta"].get("content"))
    told = [logprobs for _, logprobs in texts]
    assert None not in told or not any(told)
    tokens = None if None in told else [token["token"] for one in told for token in one["content"]]
    return "".join(text for text, _ in texts), tokens


@pytest.mark.parametrize("style", ["reasoning", "reasoning_content", "think"])
async def test_the_visible_answers_tokens_are_told(tmp_path: Path, style: ReasoningStyle) -> None:
    """Whichever way the thinking comes: the answer's tokens, and none of the thinking or of either's end."""
    engine = reply(HARMLESS, ["With", " a", " whetstone", "."], style)
    async with guarded(tmp_path, lambda request: engine) as guard:
        body = await guard.chat(logprobs=True, top_logprobs=2)
        stream = await streamed(guard, logprobs=True, top_logprobs=2)
        sent = guard.calls[0].json

    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 2)
    assert whole(body) == stream == ("With a whetstone.", ["With", " a", " whetstone", "."])
    assert body["choices"][0]["logprobs"]["content"][0] == engine_token("With")
    assert body["choices"][0]["logprobs"]["refusal"] is None
    assert "thinking-secret" not in str(body["choices"][0]["logprobs"])


async def test_the_official_client_reads_them(tmp_path: Path) -> None:
    """The SDK gets its own type, token by token."""
    engine = reply(HARMLESS, ["With", " it."])
    async with (
        guarded(tmp_path, lambda request: engine) as guard,
        AsyncOpenAI(base_url=guard.url, api_key="none") as client,
    ):
        completion = await client.chat.completions.create(**ask(), logprobs=True)

    assert completion.choices[0].logprobs is not None
    assert [token.logprob for token in completion.choices[0].logprobs.content or ()] == [-0.25, -0.25]


async def test_they_are_not_asked_for_where_the_client_does_not(tmp_path: Path) -> None:
    """Nor told where the engine tells them unasked."""
    async with guarded(tmp_path, lambda request: reply(HARMLESS, ["Yes."])) as guard:
        body = await guard.chat(logprobs=False)
        text, tokens = await streamed(guard)
        sent = guard.calls[0].json

    assert sent.keys().isdisjoint({"logprobs", "top_logprobs"})
    assert (body["choices"][0]["logprobs"], text, tokens) == (None, "Yes.", None)


async def test_a_stop_sequence_cuts_the_tokens_as_well(tmp_path: Path) -> None:
    """Nothing is told of text that is not released, nor of a token that is only released in part."""
    engine = reply(HARMLESS, ["With", " a", " whetstone", "."])
    async with guarded(tmp_path, lambda request: engine) as guard:
        body = await guard.chat(logprobs=True, stop=["stone"])
        stream = await streamed(guard, logprobs=True, stop=["stone"])

    assert whole(body) == stream == ("With a whet", ["With", " a"])


async def test_the_guards_own_refusal_has_no_tokens(tmp_path: Path) -> None:
    """An answer that is not released is not told either, word by word."""
    engine = reply(REFUSING, ["Sure", ", step", " one."])
    enforce: dict[str, Any] = {"enforcement": {"mode": "enforce"}}
    async with guarded(tmp_path, lambda request: engine, **enforce) as guard:
        body = await guard.chat(HARMFUL, logprobs=True, top_logprobs=2)
        stream = await streamed(guard, HARMFUL, logprobs=True, top_logprobs=2)

    assert whole(body) == stream == (REFUSAL, None)


async def test_tokens_that_do_not_join_to_the_answer_are_not_told(tmp_path: Path) -> None:
    """An engine that names token ids, or leaves some out, gets the answer null in place of a wrong list."""
    events = [
        chunk({"reasoning": HARMLESS}, [HARMLESS]),
        chunk({"content": "With a"}, ["token_id:9", "token_id:7"]),
        chunk({"content": " whetstone."}, [" whetstone."], "stop"),
        DONE,
    ]
    async with guarded(tmp_path, lambda request: Reply.sse(events)) as guard:
        assert whole(await guard.chat(logprobs=True)) == ("With a whetstone.", None)


async def test_other_endpoints_name_where_they_are_told(tmp_path: Path) -> None:
    """Their older and newer forms are refused by name, and the engine is not asked."""
    async with guarded(tmp_path) as guard:
        for path, least, field in (
            ("/responses", {"input": "Hi"}, {"top_logprobs": 1}),
            ("/completions", {"prompt": "Hi"}, {"logprobs": 0}),
        ):
            status, _, body = await guard.post({"model": "default", **least, **field}, path)
            assert (status, body["error"]["param"]) == (400, next(iter(field)))
            assert "on /v1/chat/completions only" in body["error"]["message"]

        assert guard.calls == []
