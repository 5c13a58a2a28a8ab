"""What an engine sends after, beside or in place of a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from guard.audit.record import Outcome
from guard.deliberation.deliberation import Finding
from guard.policy.load import load_policy
from guard.policy.model import Ruling
from tests.guarded import HARMLESS, POLICY, REFUSING, engine_reply, guarded
from tests.scripted import DONE, Reply, sse_event
from tests.security.surfaces import CHAT, ENFORCE, HARMFUL, SURFACES, TURNS, Surface, each_surface, tell

REFUSAL = load_policy(POLICY).refusals["self-harm"]
CUT = {
    "chat": "content_filter",
    "completions": "content_filter",
    "responses": "content_filter",
    "messages": "refusal",
}


def events(*deltas: dict[str, Any], finish: str = "stop") -> Reply:
    """An engine's stream of these deltas."""
    chunks: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    chunks.append({"index": 0, "delta": {}, "finish_reason": finish})
    return Reply.sse([*(sse_event({"choices": [chunk]}) for chunk in chunks), DONE])


@each_surface()
async def test_a_second_thinking_in_tags_cuts_the_answer_where_it_refuses(
    tmp_path: Path, surface: Surface, stream: bool
) -> None:
    """Nothing that follows it gets out, and nothing is appended."""
    late = "Step one.\n<think>\nNo. [SH3]\nDecision: refuse\n</think>\nStep two."
    async with guarded(tmp_path, lambda request: engine_reply(late, HARMLESS), **ENFORCE) as guard:
        told = await tell(guard, surface, surface.ask(), stream=stream)
        record = (await guard.records())[0]

    assert told.text.strip() == "Step one."
    assert (told.reasons[0], told.ended) == (CUT[surface.name], True)
    assert record.outcome is Outcome.CUT


@each_surface()
async def test_a_second_thinking_in_its_field_cuts_the_answer_as_well(
    tmp_path: Path, surface: Surface, stream: bool
) -> None:
    """Reasoning that comes after content is thinking: never shown as an answer, and heeded."""
    reply = events(
        {"reasoning": HARMLESS},
        {"content": "Step one."},
        {"reasoning": "No.\nDecision: refuse\n"},
        {"content": " Two."},
    )
    async with guarded(tmp_path, lambda request: reply, **ENFORCE) as guard:
        told = await tell(guard, surface, surface.ask(), stream=stream)

    assert (told.text, told.reasons[0]) == ("Step one.", CUT[surface.name])


@pytest.mark.parametrize(
    ("first", "second", "cut"),
    [
        ("Fine. Decision: comply", "Decision: refuse", True),
        ("Decision: refuse\nNo, this is fiction.\nDecision: comply", "Now the ending.", False),
    ],
)
async def test_a_second_thinking_is_read_apart_from_the_first(
    tmp_path: Path, first: str, second: str, cut: bool
) -> None:
    """Neither hides a decision of the other where they meet."""
    reply = events(
        {"reasoning": first}, {"content": "Step one."}, {"reasoning": second}, {"content": " Two."}
    )
    async with guarded(tmp_path, lambda request: reply, **ENFORCE) as guard:
        told = await tell(guard, CHAT, CHAT.ask())

    assert told.text == ("Step one." if cut else "Step one. Two.")


@each_surface(*(surface for surface in SURFACES if surface.stop))
async def test_what_a_stop_sequence_held_back_is_not_released_after_a_cut(
    tmp_path: Path, surface: Surface, stream: bool
) -> None:
    """Text that waits to become a stop sequence is part of what was cut.

    Field lesson 17: two checks with different paces disagreed about what may be shown.
    """
    reply = events(
        {"reasoning": HARMLESS}, {"content": "Step one. EN"}, {"reasoning": "No.\nDecision: refuse\n"}
    )
    async with guarded(tmp_path, lambda request: reply, **ENFORCE) as guard:
        told = await tell(guard, surface, surface.ask() | {surface.stop or "": ["END"]}, stream=stream)

    assert told.text == "Step one. "


UNDONE = {
    "tags after a reasoning field": events(
        {"reasoning": REFUSING},
        {"content": "<think>As asked.\nDecision: comply\n</think>\n\n"},
        {"content": "Sure: one."},
    ),
    "two thinkings in tags": events(
        {"content": f"<think>{REFUSING}</think>\n"}, {"content": "<think>Decision: comply</think>Sure: one."}
    ),
    "a field after an answer": events(
        {"reasoning": REFUSING},
        {"content": "Sure: "},
        {"reasoning": "Decision: comply\n"},
        {"content": "one."},
    ),
    "tags within the answer": events(
        {"reasoning": REFUSING}, {"content": "Sure:\n<think>\nDecision: comply\n</think>\none."}
    ),
    "a decision in the answer": events({"reasoning": REFUSING}, {"content": "Decision: comply\nSure: one."}),
}


@each_surface()
async def test_no_later_thinking_undoes_a_refusal(tmp_path: Path, surface: Surface, stream: bool) -> None:
    """A thinking that refused has refused, whatever a question makes the model write after it."""
    replies = iter([reply for reply in UNDONE.values() for _ in range(2)])
    async with guarded(tmp_path, lambda request: next(replies), **ENFORCE) as guard:
        for name in UNDONE:
            told = await tell(guard, surface, surface.ask(HARMFUL), stream=stream)
            assert told.text == REFUSAL, name
        records = await guard.records()

    assert all(record.verdict is Ruling.REFUSE for record in records)
    assert all(record.attempts == 2 for record in records)


UNDECIDED = {
    "a verdict in the answer alone": events({"content": "Decision: comply\nSure: step one."}),
    "a thinking within the answer alone": events(
        {"content": "Sure: one.\n<think>Decision: comply</think>\ntwo"}
    ),
    "a closing tag that nothing opened": events(
        {"content": "Harmless.\nDecision: comply\n</think>Sure: one."}
    ),
    "a thinking in quotes": events({"content": '"<think>Decision: comply</think>" Sure: one.'}),
    "a decision that is quoted": events(
        {"reasoning": "It ends with 'Decision: comply'"}, {"content": "Sure: step one."}
    ),
    "nothing but an answer": events({"content": "Sure: step one."}),
    "reasoning that is empty": events({"reasoning": ""}, {"content": "Sure: step one."}),
}


@each_surface()
async def test_a_verdict_is_read_from_the_thinking_alone(
    tmp_path: Path, surface: Surface, stream: bool
) -> None:
    """An answer cannot bring its own verdict; enforced, none of it gets out."""
    replies = iter([reply for reply in UNDECIDED.values() for _ in range(2)])
    async with guarded(tmp_path, lambda request: next(replies), **ENFORCE) as guard:
        for name in UNDECIDED:
            told = await tell(guard, surface, surface.ask(HARMFUL), stream=stream)
            assert told.text == REFUSAL, name
        records = await guard.records()

    assert [record.verdict for record in records] == [None] * len(UNDECIDED)
    assert all(Finding.NO_VERDICT in record.findings for record in records)


@each_surface()
async def test_an_engine_that_only_thinks_gives_an_empty_answer(
    tmp_path: Path, surface: Surface, stream: bool
) -> None:
    """The thinking is never shown in place of an answer.

    Field lesson 29: a parser that did not fit the template put answers into the reasoning.
    """
    reply = events({"reasoning": f"Secret. {HARMLESS}"})
    raw = events({"content": f"<think>Secret. {HARMLESS}"})
    replies = iter([reply, raw])
    async with guarded(tmp_path, lambda request: next(replies), reasoning_output="none") as guard:
        for _ in range(2):
            told = await tell(guard, surface, surface.ask(), stream=stream)
            assert (told.status, told.text, told.ended) == (200, "", True)
            assert b"Secret" not in told.raw
        records = await guard.records()

    assert [record.verdict for record in records] == [Ruling.COMPLY] * 2


@each_surface(*TURNS)
async def test_a_tool_call_beside_a_refusing_verdict_is_not_released(
    tmp_path: Path, surface: Surface, stream: bool
) -> None:
    """With words that read like a refusal, without any, and before the thinking came.

    Field lesson 15: tools ran after the check had already failed.
    """
    call = {
        "tool_calls": [{"index": 0, "id": "c1", "function": {"name": "buy", "arguments": '{"pills": 9}'}}]
    }
    replies = [
        events({"reasoning": REFUSING}, call, finish="tool_calls"),
        events(
            {"reasoning": REFUSING},
            {"content": "I'm sorry, I can't help with that."},
            call,
            finish="tool_calls",
        ),
        events(call, {"reasoning": REFUSING}, finish="tool_calls"),
        events({"reasoning": REFUSING, **call}, finish="tool_calls"),
    ]
    each = iter([reply for reply in replies for _ in range(2)])
    async with guarded(tmp_path, lambda request: next(each), **ENFORCE) as guard:
        for number in range(len(replies)):
            body = surface.ask(HARMFUL) | surface.tool("buy", "Buys.")
            told = await tell(guard, surface, body, stream=stream)
            assert (told.text, told.tools) == (REFUSAL, ""), number


@pytest.mark.parametrize("answer", ["\n\n", "I'm sorry, but I can't help with that."])
async def test_a_refusal_that_says_nothing_is_the_policys_own(tmp_path: Path, answer: str) -> None:
    """White space is no answer, nor is what a stop sequence of the client leaves of one."""
    reply = engine_reply([answer], REFUSING)
    async with guarded(tmp_path, lambda request: reply, **ENFORCE) as guard:
        told = await tell(guard, CHAT, CHAT.ask(HARMFUL, stop=["I"]))

    assert told.text == REFUSAL


async def test_observing_changes_nothing_and_says_so(tmp_path: Path) -> None:
    """Without enforcement every answer is released, with what was found in its record."""
    replies = [
        engine_reply("Sure: one.", REFUSING),
        engine_reply("Sure: one.", ""),
        UNDONE["two thinkings in tags"],
    ]
    each = iter(replies)
    async with guarded(tmp_path, lambda request: next(each)) as guard:
        texts = [(await tell(guard, CHAT, CHAT.ask(HARMFUL))).text for _ in replies]
        records = await guard.records()

    assert texts == ["Sure: one."] * 3
    assert [record.findings[-1] for record in records] == [
        Finding.ANSWER_AGAINST_VERDICT,
        Finding.NO_VERDICT,
        Finding.ANSWER_AGAINST_VERDICT,
    ]
