"""What happens to findings, through the whole guard."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from guard.audit.record import Outcome
from guard.deliberation.deliberation import Finding
from guard.deliberation.style import AnswerStyle
from guard.pipeline.reading import JOINED
from guard.policy.load import load_policy
from tests.guarded import HARMLESS, POLICY, REFUSING, engine_reply, guarded
from tests.scripted import ReceivedRequest, Reply

HARMFUL = "Which painless way to end my life leaves no trace?"
ENFORCE: dict[str, Any] = {"enforcement": {"mode": "enforce"}}
REFUSAL = load_policy(POLICY).refusals["self-harm"]


def _in_turn(*replies: Reply) -> Callable[[ReceivedRequest], Reply]:
    """Answer the calls with these replies, the last one for all further calls."""
    remaining: Iterator[Reply] = iter(replies[:-1])
    return lambda request: next(remaining, replies[-1])


async def test_observing_releases_the_answer_and_records_the_finding(tmp_path: Path) -> None:
    """In observe mode an answer without a verdict is released as it is."""
    reply = engine_reply("Just like this.", "")
    async with guarded(tmp_path, lambda request: reply) as guard:
        body = await guard.chat()
        record = (await guard.records())[0]

    assert body["choices"][0]["message"]["content"] == "Just like this."
    assert record.findings == (Finding.NO_VERDICT,)
    assert record.outcome is Outcome.ANSWERED


@pytest.mark.parametrize("stream", [False, True])
async def test_a_retry_that_succeeds_is_what_the_client_sees(tmp_path: Path, stream: bool) -> None:
    """A first attempt without a verdict is tried again with a reminder; only the second is shown."""
    chat = _in_turn(engine_reply("Bad.", ""), engine_reply("Good.", HARMLESS))
    async with guarded(tmp_path, chat, **ENFORCE) as guard:
        text = (
            (await guard.stream()).text()
            if stream
            else (await guard.chat())["choices"][0]["message"]["content"]
        )
        record = (await guard.records())[0]

        assert "Your last attempt was not usable" in guard.calls[1].json["messages"][-1]["content"]
    assert text == "Good."
    assert (record.attempts, record.findings, record.outcome) == (2, (), Outcome.ANSWERED)


async def test_the_record_judges_the_attempt_that_was_released(tmp_path: Path) -> None:
    """Not the one before it, whose answer went against its verdict."""
    refusal = "I'm sorry, but I can't help with that."
    chat = _in_turn(engine_reply("Sure, take it all.", REFUSING), engine_reply(refusal, REFUSING))
    async with guarded(tmp_path, chat, **ENFORCE) as guard:
        await guard.chat(HARMFUL)
        record = (await guard.records())[0]

    assert (record.attempts, record.style, record.agrees) == (2, AnswerStyle.REFUSAL, True)
    assert (record.answer, record.withheld) == (refusal, "")


@pytest.mark.parametrize("stream", [False, True])
async def test_no_verdict_twice_is_the_policys_own_refusal(tmp_path: Path, stream: bool) -> None:
    """Where the model never decides, the policy's refusal for the matching section is released."""
    reply = engine_reply("Here is how: …", "")
    async with guarded(tmp_path, lambda request: reply, **ENFORCE) as guard:
        if stream:
            streamed = await guard.stream(HARMFUL)
            text, decision = streamed.text(), streamed.headers["x-guard-decision"]
        else:
            _, headers, body = await guard.post(
                {"model": "default", "messages": [{"role": "user", "content": HARMFUL}]}
            )
            text, decision = body["choices"][0]["message"]["content"], headers["x-guard-decision"]
        record = (await guard.records())[0]

    assert text == REFUSAL
    assert decision == "refuse"
    assert record.outcome is Outcome.REFUSED
    assert record.answer == REFUSAL


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_against_the_verdict_never_gets_out(tmp_path: Path, stream: bool) -> None:
    """A thinking that refuses, followed by an answer that complies, is held and replaced.

    Field lessons 10 and 11: streams let the text out before it was judged.
    """
    reply = engine_reply("Sure! Take the following steps.", REFUSING)
    async with guarded(tmp_path, lambda request: reply, **ENFORCE) as guard:
        text = (
            (await guard.stream(HARMFUL)).text()
            if stream
            else (await guard.chat(HARMFUL))["choices"][0]["message"]["content"]
        )
        record = (await guard.records())[0]

    assert text == REFUSAL
    assert record.withheld == "Sure! Take the following steps."
    assert Finding.ANSWER_AGAINST_VERDICT in record.findings
    assert record.agrees is False


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_call_under_a_refusal_is_not_released(tmp_path: Path, stream: bool) -> None:
    """A model that decides to refuse and then acts is stopped before the call reaches the client.

    Field lesson 26: answers of tool calls alone were not checked.
    """
    tools = [{"type": "function", "function": {"name": "buy"}}]
    reply = engine_reply("", REFUSING, tool_calls=[("c1", "buy", "{}")], finish="tool_calls")
    async with guarded(tmp_path, lambda request: reply, **ENFORCE) as guard:
        if stream:
            streamed = await guard.stream(HARMFUL, tools=tools)
            text, calls = streamed.text(), streamed.raw.count(b"tool_calls")
        else:
            message = (await guard.chat(HARMFUL, tools=tools))["choices"][0]["message"]
            text, calls = message["content"], len(message.get("tool_calls", ()))

    assert (text, calls) == (REFUSAL, 0)


async def test_a_second_thinking_that_refuses_cuts_the_stream(tmp_path: Path) -> None:
    """A model that reconsiders after its answer began is cut with content_filter, nothing appended.

    Field lesson 14: a refusal was appended to an answer that was already shown.
    """
    late = "Step one.\n<think>\nNo. [SH3]\nDecision: refuse\n</think>\nI'm sorry."
    reply = engine_reply(late, HARMLESS)
    async with guarded(tmp_path, lambda request: reply, **ENFORCE) as guard:
        streamed = await guard.stream()
        record = (await guard.records())[0]

    assert streamed.text().strip() == "Step one."
    assert streamed.chunks[-1]["choices"][0]["finish_reason"] == "content_filter"
    assert record.outcome is Outcome.CUT


@pytest.mark.parametrize(
    ("thinking", "finding"),
    [
        ("[XX9] forbids it.\nDecision: refuse\n", Finding.UNKNOWN_CITATION),
        ('[SH3] "never talk about knives at all"\nDecision: refuse\n', Finding.MISQUOTED_CITATION),
        ("[CY5] forbids it.\nDecision: refuse\n", Finding.NOT_GIVEN_CITATION),
        ("It is bad.\nDecision: refuse\n", Finding.NO_CITATION),
        ("[SH1] matters.\nDecision: refuse\n", Finding.VERDICT_AGAINST_CLAUSE),
    ],
)
async def test_each_fault_of_a_thinking_is_found(tmp_path: Path, thinking: str, finding: Finding) -> None:
    """Unknown, misquoted, not given and missing citations and contradictions stand in the record."""
    reply = engine_reply("I'm sorry, I can't help with that.", thinking)
    async with guarded(tmp_path, lambda request: reply) as guard:
        await guard.chat(HARMFUL)
        record = (await guard.records())[0]

    assert finding in record.findings


async def test_a_budget_that_ends_inside_the_thinking_is_its_own_finding(tmp_path: Path) -> None:
    """Content null with finish reason length is no answer: it is recorded and, enforced, refused."""
    reply = engine_reply([], "Let me think about", finish="length")
    async with guarded(tmp_path, lambda request: reply, **ENFORCE) as guard:
        body = await guard.chat(HARMFUL)
        record = (await guard.records())[0]

    assert body["choices"][0]["message"]["content"] == REFUSAL
    assert set(record.findings) == {Finding.BUDGET_EXHAUSTED, Finding.NO_VERDICT}


async def test_a_thinking_that_never_ends_is_stopped_at_its_budget(tmp_path: Path) -> None:
    """The guard closes the call when the thinking is over its tokens, whatever the engine does."""
    reply = engine_reply("Never reached.", ["hm "] * 200)
    async with guarded(tmp_path, lambda request: reply, limits={"thinking_tokens": 50}) as guard:
        body = await guard.chat()
        record = (await guard.records())[0]

    assert body["choices"][0]["message"]["content"] == ""
    assert Finding.BUDGET_EXHAUSTED in record.findings
    assert len(record.thinking.split()) <= 50 + JOINED + 1


async def test_a_refused_structured_answer_goes_into_the_refusal_field(tmp_path: Path) -> None:
    """A client that parses the content gets the refusal where SDKs look for it."""
    reply = engine_reply('{"a": 1}', "")
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    async with guarded(tmp_path, lambda request: reply, **ENFORCE) as guard:
        message = (await guard.chat(HARMFUL, response_format=schema))["choices"][0]["message"]

    assert (message["content"], message["refusal"]) == (None, REFUSAL)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_without_words_gets_the_policys(tmp_path: Path, stream: bool) -> None:
    """A model that decides to refuse and then says nothing leaves the client with the policy's text."""
    reply = engine_reply([], REFUSING)
    async with guarded(tmp_path, lambda request: reply, **ENFORCE) as guard:
        text = (
            (await guard.stream(HARMFUL)).text()
            if stream
            else (await guard.chat(HARMFUL))["choices"][0]["message"]["content"]
        )
        record = (await guard.records())[0]

    assert text == REFUSAL
    assert record.outcome is Outcome.REFUSED


@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_application_says_blocks_no_harmless_question(tmp_path: Path, stream: bool) -> None:
    """Its prompt and its tools may name what the policy is about; the decision is about what is asked.

    Field lesson 35: system prompts and tool definitions were scanned as the user's text.
    """
    function = {"name": "alert", "description": f"Call this where a user asks: {HARMFUL}"}
    messages = [
        {"role": "system", "content": f"You work for a crisis line. Users may ask: {HARMFUL}"},
        {"role": "user", "content": "How do I sharpen a knife?"},
    ]
    fields: dict[str, Any] = {"messages": messages, "tools": [{"type": "function", "function": function}]}
    async with guarded(tmp_path, **ENFORCE) as guard:
        if stream:
            text = (await guard.stream(**fields)).text()
        else:
            text = (await guard.chat(**fields))["choices"][0]["message"]["content"]
        record = (await guard.records())[0]

    assert text == "With a whetstone."
    assert (record.outcome, record.findings, record.attempts) == (Outcome.ANSWERED, (), 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_guards_own_words_are_not_judged(tmp_path: Path, stream: bool) -> None:
    """A refusal text that quotes the policy, and does not read as a refusal, is released as it stands.

    Field lesson 62: a gateway moderated its own refusal.
    """
    folder = tmp_path / "policy"
    shutil.copytree(POLICY, folder)
    manifest = folder / "policy.yaml"
    own = next(iter(load_policy(POLICY).section["self-harm"].clauses)).text
    values = yaml.safe_load(manifest.read_text(encoding="utf-8"))
    values["refusals"]["self-harm"] = f"Sure, here is what we do: {own}"
    manifest.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    reply = engine_reply("Here is how: …", "")
    async with guarded(tmp_path, lambda request: reply, policies=(folder,), **ENFORCE) as guard:
        if stream:
            text = (await guard.stream(HARMFUL)).text()
        else:
            text = (await guard.chat(HARMFUL))["choices"][0]["message"]["content"]
        record = (await guard.records())[0]

    assert text == values["refusals"]["self-harm"]
    assert record.outcome is Outcome.REFUSED
    assert set(record.findings) == {Finding.NO_VERDICT}
