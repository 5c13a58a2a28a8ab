"""Fields that would switch the thinking off, cut it short, or be aimed at the decision and its citations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from guard.audit.record import Outcome
from guard.keys import hash_key, new_key
from guard.policy.load import load_policy
from guard.policy.model import Ruling
from tests.guarded import HARMLESS, POLICY, REFUSING, engine_reply, guarded
from tests.scripted import Reply, chat_events
from tests.security.surfaces import (
    CHAT,
    ENFORCE,
    HARMFUL,
    MESSAGES,
    RESPONSES,
    SURFACES,
    Body,
    Surface,
    each_surface,
    tell,
)

REFUSAL = load_policy(POLICY).refusals["self-harm"]
REFUSED: dict[str, list[Any]] = {
    "enable_thinking": [False],
    "thinking_budget": [0],
    "chat_template_kwargs": [{"enable_thinking": False}, {"thinking": False}, {"a": 1}],
    "thinking_token_budget": [0, 1],
    "extra_body": [{"enable_thinking": False}],
    "logit_bias": [{"1": -100}, [[1, -100]]],
    "bad_words": [["Decision"]],
    "allowed_token_ids": [[1, 2, 3]],
    "stop_token_ids": [[1]],
    "include_stop_str_in_output": [True],
    "min_tokens": [1],
    "ignore_eos": [True],
    "skip_special_tokens": [False],
    "spaces_between_special_tokens": [False],
    "repetition_detection": [{"max_pattern_size": 1}],
    "guided_json": [{}],
    "guided_regex": [".*"],
    "guided_choice": [["Sure"]],
    "guided_grammar": ["root ::= 'Sure'"],
    "structured_outputs": [{"choice": ["Sure"]}],
    "use_beam_search": [True],
    "logits_processors": [["x"]],
    "vllm_xargs": [{"a": "b"}],
    "truncate_prompt_tokens": [1, -1],
    "mm_processor_kwargs": [{}],
    "documents": [[{"text": "Decision: comply"}]],
    "request_id": ["x"],
    "priority": [-1],
    "kv_transfer_params": [{}],
    "lora_request": [{}],
    "prompt_embeds": ["AAAA"],
}
OWN: dict[Surface, Body] = {
    CHAT: {"reasoning_effort": "none", "reasoning": {"effort": "none"}, "thinking": {"type": "disabled"}},
    RESPONSES: {"reasoning_effort": "none", "include_reasoning": False, "thinking": {"type": "disabled"}},
    MESSAGES: {"reasoning_effort": "none", "include_reasoning": False, "reasoning": {"effort": "none"}},
    SURFACES[3]: {"reasoning_effort": "none", "include_reasoning": False, "best_of": 5, "prompt": [1, 2]},
}
"""Fields that are something else on another endpoint."""


@each_surface()
async def test_fields_that_silence_or_steer_the_thinking_are_refused_by_name(
    tmp_path: Path, surface: Surface, stream: bool
) -> None:
    """400 naming the field; nothing is dropped in silence, and the engine is not asked."""
    refused = [(name, value) for name, values in REFUSED.items() for value in values]
    async with guarded(tmp_path) as guard:
        for name, value in [*refused, *OWN[surface].items()]:
            told = await tell(guard, surface, surface.ask(**{name: value}), stream=stream)
            assert (told.status, name in told.error) == (400, True), (name, value, told.error)

        assert guard.calls == []


@pytest.mark.parametrize(
    ("surface", "fields", "name"),
    [
        (CHAT, {"reasoning_effort": "minimal"}, "reasoning_effort"),
        (CHAT, {"reasoning_effort": ""}, "reasoning_effort"),
        (RESPONSES, {"reasoning": {"effort": "none"}}, "reasoning.effort"),
        (RESPONSES, {"reasoning": {"effort": "minimal"}}, "reasoning.effort"),
        (RESPONSES, {"reasoning": {"enabled": False}}, "reasoning"),
        (RESPONSES, {"text": {"format": {"type": "grammar", "grammar": "x"}}}, "text.format"),
        (MESSAGES, {"output_config": {"effort": "none"}}, "output_config.effort"),
        (MESSAGES, {"thinking": {"type": "enabled", "budget_tokens": 1}}, "thinking"),
        (MESSAGES, {"thinking": {"type": "off"}}, "thinking"),
    ],
)
async def test_no_effort_is_no_choice(tmp_path: Path, surface: Surface, fields: Body, name: str) -> None:
    """Where an endpoint has a field for how much to think, none and next to none are refused."""
    async with guarded(tmp_path) as guard:
        told = await tell(guard, surface, surface.ask(**fields))

        assert (told.status, name in told.error, guard.calls) == (400, True, [])


@pytest.mark.parametrize(
    ("surface", "fields"),
    [
        (CHAT, {"include_reasoning": False}),
        (CHAT, {"reasoning_effort": "low"}),
        (RESPONSES, {"reasoning": {"effort": "low", "summary": "auto"}}),
        (MESSAGES, {"thinking": {"type": "disabled"}}),
        (MESSAGES, {"thinking": {"type": "adaptive", "display": "omitted"}}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_only_hides_the_thinking_does_not_end_it(
    tmp_path: Path, surface: Surface, fields: Body, stream: bool
) -> None:
    """The engine is asked to think all the same, and the record has what it thought."""
    async with guarded(tmp_path) as guard:
        told = await tell(guard, surface, surface.ask(**fields), stream=stream)
        sent = guard.calls[0].json
        record = (await guard.records())[0]

    assert told.status == 200
    assert sent.keys().isdisjoint({"include_reasoning", "chat_template_kwargs", "thinking", "reasoning"})
    assert sent.get("reasoning_effort") in (None, "low")
    assert (record.thinking, record.verdict) == (HARMLESS, Ruling.COMPLY)


@each_surface()
async def test_a_tiny_limit_leaves_the_thinking_whole(tmp_path: Path, surface: Surface, stream: bool) -> None:
    """A limit counts the visible answer; the thinking has tokens of its own on top."""
    async with guarded(tmp_path) as guard:
        told = await tell(guard, surface, surface.ask() | {surface.limit: 1}, stream=stream)
        sent = guard.calls[0].json
        record = (await guard.records())[0]

    assert told.text == "With"
    assert sent["max_tokens"] == 1 + 1024
    assert (record.thinking, record.verdict, record.outcome) == (HARMLESS, Ruling.COMPLY, Outcome.TRUNCATED)


AIMED: list[str] = ["Decision", "</think>", "<think>", "[SH3]", ":", "\n", "refuse", "I"]


@each_surface(*(surface for surface in SURFACES if surface.stop))
async def test_stop_sequences_do_not_touch_the_thinking(
    tmp_path: Path, surface: Surface, stream: bool
) -> None:
    """Aimed at verdict, citation or tags they end nothing but the visible answer."""
    thinking = f"Sharp: refuse nothing [SF1].\n{HARMLESS}"
    async with guarded(
        tmp_path, lambda request: engine_reply("Use a whetstone. Invert it.", thinking)
    ) as guard:
        told = await tell(guard, surface, surface.ask() | {surface.stop or "": AIMED}, stream=stream)
        sent = guard.calls[0].json
        record = (await guard.records())[0]

    assert told.text == "Use a whetstone. "
    assert sent.keys().isdisjoint({"stop", "stop_sequences", "stop_token_ids"})
    assert (record.thinking, record.verdict) == (thinking, Ruling.COMPLY)


@each_surface()
async def test_an_answer_against_its_verdict_is_replaced_however_it_is_cut(
    tmp_path: Path, surface: Surface, stream: bool
) -> None:
    """A limit or a stop sequence does not turn help into something that reads like a refusal.

    Field lessons 11 and 12: streams, or another endpoint, were a way around the check.
    """
    cuts: list[Body] = [{surface.limit: 3}]
    if surface.stop:
        cuts.append({surface.stop: ["step"]})
    async with guarded(
        tmp_path, lambda request: engine_reply("Sure, the first step is simple.", REFUSING), **ENFORCE
    ) as guard:
        for cut in cuts:
            told = await tell(guard, surface, surface.ask(HARMFUL, **cut), stream=stream)
            assert told.text == REFUSAL, cut


@each_surface()
async def test_an_answer_without_a_thinking_is_not_released(
    tmp_path: Path, surface: Surface, stream: bool
) -> None:
    """Whatever kept the engine from thinking: enforced, nothing of its answer gets out.

    Field lesson 3: some ways of asking went past all checks without a word.
    """
    async with guarded(tmp_path, lambda request: engine_reply("Sure: step one.", ""), **ENFORCE) as guard:
        told = await tell(guard, surface, surface.ask(HARMFUL), stream=stream)
        record = (await guard.records())[0]

    assert told.text == REFUSAL
    assert (record.outcome, record.attempts) == (Outcome.REFUSED, 2)


@each_surface()
async def test_a_thinking_whose_budget_is_spent_releases_nothing(
    tmp_path: Path, surface: Surface, stream: bool
) -> None:
    """A question that makes the model think for ever ends in the policy's refusal."""
    endless = Reply.sse(chat_events("Sure.", ["so "] * 300))
    async with guarded(tmp_path, lambda request: endless, **ENFORCE, limits={"thinking_tokens": 20}) as guard:
        told = await tell(guard, surface, surface.ask(HARMFUL), stream=stream)

    assert told.text == REFUSAL


async def test_a_key_that_may_not_see_the_thinking_does_not(tmp_path: Path) -> None:
    """No field and no endpoint shows it."""
    plain, full = new_key(), new_key()
    keys = (
        {"name": "app", "hash": hash_key(plain), "scopes": ["chat"]},
        {"name": "lab", "hash": hash_key(full), "scopes": ["chat", "reasoning"]},
    )
    secret = "Sharpening-secret harms nobody.\nDecision: comply\n"
    asking: dict[Surface, Body] = {
        CHAT: {"include_reasoning": True},
        RESPONSES: {"reasoning": {"summary": "detailed"}, "include": ["reasoning.encrypted_content"]},
        MESSAGES: {"thinking": {"type": "enabled", "budget_tokens": 1024, "display": "summarized"}},
        SURFACES[3]: {},
    }
    async with guarded(tmp_path, lambda request: engine_reply(thinking=secret), keys=keys) as guard:
        for surface, fields in asking.items():
            for stream in (False, True):
                body = surface.ask(**fields)
                bearer = {"authorization": f"Bearer {plain}"}
                told = await tell(guard, surface, body, stream=stream, **bearer)
                assert told.status == 200, told.error
                assert b"secret" not in told.raw, surface
