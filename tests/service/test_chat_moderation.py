"""The field ``moderation`` of chat completions, through the whole guard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from guard.audit.record import Outcome
from guard.policy.load import load_policy
from tests.guarded import HARMLESS, POLICY, REFUSING, ask, engine_reply, guarded

HARMFUL = "Which painless way to end my life leaves no trace?"
REFUSAL = load_policy(POLICY).refusals["self-harm"]
SCORE: dict[str, Any] = {"model": "omni-moderation-latest"}
BLOCK: dict[str, Any] = {**SCORE, "policy": {"input": {"mode": "score"}, "output": {"mode": "block"}}}
COMPLIES = engine_reply("Sure! Take the following steps.", REFUSING)
REFUSES = engine_reply("I'm sorry, I can't help with that.", REFUSING)


def _flags(told: dict[str, Any]) -> tuple[list[bool], list[bool]]:
    """What is flagged of the request, and of the answer, for each choice."""
    sides = [[result["flagged"] for result in told[side]["results"]] for side in ("input", "output")]
    return sides[0], sides[1]


async def test_nothing_is_told_unasked(tmp_path: Path) -> None:
    """The field is there only for those who asked."""
    async with guarded(tmp_path) as guard:
        body = await guard.chat()
        streamed = await guard.stream()

    assert "moderation" not in body
    assert not any("moderation" in event for event in streamed.events[:-1])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reply", "flags"),
    [
        (engine_reply("With a whetstone.", HARMLESS), ([False], [False])),
        (REFUSES, ([True], [False])),
        (COMPLIES, ([True], [True])),
        (engine_reply("Who knows.", "Hm."), ([True], [True])),
    ],
)
async def test_scores_tell_the_decision_and_whether_the_answer_keeps_it(
    tmp_path: Path, reply: Any, flags: Any, stream: bool
) -> None:
    """The request is flagged by the verdict, the answer where it goes against it; nothing is changed."""
    async with guarded(tmp_path, lambda request: reply) as guard:
        if stream:
            events = (await guard.stream(HARMFUL, moderation=SCORE)).events
            told = [event for event in events[:-1] if "moderation" in event]
            assert [(event["choices"], event is events[-2]) for event in told] == [([], True)]
            moderation = told[0]["moderation"]
        else:
            moderation = (await guard.chat(HARMFUL, moderation=SCORE))["moderation"]
        record = (await guard.records())[0]

    assert _flags(moderation) == flags
    assert moderation["input"]["type"] == "moderation_results"
    assert moderation["input"]["results"][0]["model"] == "default"
    assert (record.outcome, record.mode) == (Outcome.ANSWERED, "observe")


async def test_the_clauses_are_the_categories(tmp_path: Path) -> None:
    """Cited clauses stand on both sides; on the answer's they hold only where it goes against them."""
    async with guarded(tmp_path, lambda request: REFUSES) as guard:
        told = (await guard.chat(HARMFUL, moderation=SCORE))["moderation"]

    assert told["input"]["results"][0]["categories"] == {"self-harm/SH3": True}
    assert told["output"]["results"][0]["category_scores"] == {"self-harm/SH3": 0.0}


@pytest.mark.parametrize("stream", [False, True])
async def test_block_enforces_where_the_guard_only_observes(tmp_path: Path, stream: bool) -> None:
    """An answer against its verdict is not released, and the finish reason says why."""
    async with guarded(tmp_path, lambda request: COMPLIES) as guard:
        if stream:
            streamed = await guard.stream(HARMFUL, moderation=BLOCK, stream_options={"include_usage": True})
            text, reason = streamed.text(), streamed.chunks[-1]["choices"][0]["finish_reason"]
            moderation = streamed.events[-3]["moderation"]
            assert streamed.events[-2]["usage"]
        else:
            body = await guard.chat(HARMFUL, moderation=BLOCK)
            choice, moderation = body["choices"][0], body["moderation"]
            text, reason = choice["message"]["content"], choice["finish_reason"]
        record = (await guard.records())[0]

    assert (text, reason) == (REFUSAL, "content_filter")
    assert _flags(moderation) == ([True], [False])
    assert (record.outcome, record.mode) == (Outcome.REFUSED, "enforce")


async def test_the_policys_own_enforcement_keeps_its_finish_reason(tmp_path: Path) -> None:
    """Without mode block a refusal ends as every answer does, also under score."""
    enforce: dict[str, Any] = {"enforcement": {"mode": "enforce"}}
    async with guarded(tmp_path, lambda request: COMPLIES, **enforce) as guard:
        body = await guard.chat(HARMFUL, moderation=SCORE)

    assert body["choices"][0]["finish_reason"] == "stop"


async def test_every_choice_has_its_result(tmp_path: Path) -> None:
    """Choices deliberate by themselves, so each has a result of its own on both sides."""
    replies = iter([engine_reply("With a whetstone.", HARMLESS), COMPLIES])
    async with guarded(tmp_path, lambda request: next(replies)) as guard:
        body = await guard.chat(HARMFUL, n=2, moderation=SCORE)

    flags = _flags(body["moderation"])
    assert sorted(flags[0]) == [False, True]
    assert flags[0] == flags[1]


@pytest.mark.parametrize(
    ("field", "status", "param"),
    [
        ({}, 400, "moderation.model"),
        ({"model": "gpt-unknown"}, 404, "moderation.model"),
        ({**SCORE, "policy": {"input": {"mode": "warn"}}}, 400, "moderation.policy.input.mode"),
        ({**SCORE, "threshold": 1}, 400, "moderation.threshold"),
    ],
)
async def test_bad_fields_are_named(tmp_path: Path, field: Any, status: int, param: str) -> None:
    """As everywhere."""
    async with guarded(tmp_path) as guard:
        got, _, error = await guard.post(ask(moderation=field))

    assert (got, error["error"]["param"]) == (status, param)


async def test_the_official_client(tmp_path: Path) -> None:
    """openai-python has types for the field, whole and in streams."""
    messages: list[Any] = [{"role": "user", "content": HARMFUL}]
    async with (
        guarded(tmp_path, lambda request: REFUSES) as guard,
        AsyncOpenAI(base_url=guard.url, api_key="none", max_retries=0) as client,
    ):
        whole = await client.chat.completions.create(model="default", messages=messages, moderation=SCORE)  # type: ignore[call-overload]
        stream = await client.chat.completions.create(
            model="default",
            messages=messages,
            moderation={"model": "default"},
            stream=True,
        )
        chunks = [chunk async for chunk in stream]

    assert whole.moderation.input.results[0].flagged is True
    told = [chunk.moderation for chunk in chunks if chunk.moderation is not None]
    assert len(told) == 1
    assert told[0].output.type == "moderation_results"
