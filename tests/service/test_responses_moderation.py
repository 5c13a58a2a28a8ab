"""The field ``moderation`` of ``/v1/responses``, as chat completions have it, through the whole guard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from guard.audit.record import Outcome
from guard.policy.load import load_policy
from tests.guarded import HARMLESS, POLICY, REFUSING, engine_reply, guarded
from tests.responding import call, request, respond, stream, visible

HARMFUL = "Which painless way to end my life leaves no trace?"
REFUSAL = load_policy(POLICY).refusals["self-harm"]
SCORE: dict[str, Any] = {"model": "omni-moderation-latest"}
BLOCK: dict[str, Any] = {**SCORE, "policy": {"output": {"mode": "block"}}}
COMPLIES = engine_reply("Sure! Take the following steps.", REFUSING)
REFUSES = engine_reply("I'm sorry, I can't help with that.", REFUSING)


async def test_nothing_is_told_unasked(tmp_path: Path) -> None:
    """The field is there only for those who asked."""
    async with guarded(tmp_path) as guard:
        body = await respond(guard)
        events = await stream(guard)

    assert "moderation" not in body
    assert "moderation" not in events.response


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("reply", "flags"),
    [
        (engine_reply("With a whetstone.", HARMLESS), (False, False)),
        (REFUSES, (True, False)),
        (COMPLIES, (True, True)),
        (engine_reply("Who knows.", "Hm."), (True, True)),
    ],
)
async def test_scores_tell_the_decision_and_whether_the_answer_keeps_it(
    tmp_path: Path, reply: Any, flags: tuple[bool, bool], streamed: bool
) -> None:
    """Each side is one result; the text is not changed, and what is stored tells the same."""
    async with guarded(tmp_path, lambda request: reply) as guard:
        if streamed:
            body = (await stream(guard, HARMFUL, moderation=SCORE)).response
        else:
            body = await respond(guard, HARMFUL, moderation=SCORE)
        _, stored = await call(guard, "GET", body["id"])
        record = (await guard.records())[0]

    told = body["moderation"]
    assert (told["input"]["flagged"], told["output"]["flagged"]) == flags
    assert {side["type"] for side in told.values()} == {"moderation_result"}
    assert {side["model"] for side in told.values()} == {"default"}
    assert stored["moderation"] == told
    assert (record.outcome, record.mode) == (Outcome.ANSWERED, "observe")


@pytest.mark.parametrize("streamed", [False, True])
async def test_block_enforces_where_the_guard_only_observes(tmp_path: Path, streamed: bool) -> None:
    """An answer against its verdict is not released; the response is incomplete and says why."""
    async with guarded(tmp_path, lambda request: COMPLIES) as guard:
        if streamed:
            body = (await stream(guard, HARMFUL, moderation=BLOCK)).response
        else:
            body = await respond(guard, HARMFUL, moderation=BLOCK)
        record = (await guard.records())[0]

    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "content_filter"})
    assert [item["content"][0]["text"] for item in visible(body["output"])] == [REFUSAL]
    assert body["moderation"]["input"]["categories"] == {"self-harm/SH3": True}
    assert not body["moderation"]["output"]["flagged"]
    assert (record.outcome, record.mode) == (Outcome.REFUSED, "enforce")


async def test_the_official_client_reads_it(tmp_path: Path) -> None:
    """The SDK gets its own type."""
    async with (
        guarded(tmp_path, lambda request: REFUSES) as guard,
        AsyncOpenAI(base_url=guard.url, api_key="none") as client,
    ):
        response = await client.responses.create(
            model="default", input=HARMFUL, moderation={"model": "default"}
        )

    assert response.moderation is not None
    assert response.moderation.input.type == "moderation_result"
    assert response.moderation.input.flagged


@pytest.mark.parametrize(
    ("asked", "status", "param"),
    [
        ({"model": "no-such-judge"}, 404, "moderation.model"),
        ({}, 400, "moderation.model"),
        ({**SCORE, "policy": {"output": {"mode": "hide"}}}, 400, "moderation.policy.output.mode"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_name(
    tmp_path: Path, asked: Any, status: int, param: str
) -> None:
    """Unknown judges and modes reach neither engine nor records."""
    async with guarded(tmp_path) as guard:
        got, _, body = await guard.post(request(moderation=asked), "/responses")

        assert (got, body["error"]["param"], guard.calls) == (status, param, [])
