"""In which field a thinking is shown, whichever field it came in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guarded import HARMLESS, ask, engine_reply, guarded
from tests.scripted import ReasoningStyle

FIELDS = {
    "reasoning": {"reasoning"},
    "reasoning_content": {"reasoning_content"},
    "both": {"reasoning", "reasoning_content"},
    "none": set[str](),
}
"""The fields of an answer by the setting ``reasoning_output``."""


@pytest.mark.parametrize("style", ["reasoning", "reasoning_content", "think"])
@pytest.mark.parametrize("output", FIELDS)
async def test_the_operator_chooses_the_field(tmp_path: Path, style: ReasoningStyle, output: str) -> None:
    """Whole and streamed alike, and no other field is added that a strict client would not know.

    Field lessons 20, 21, 22 and 24: engines renamed the field, and gateways lost the thinking, in streams or
    altogether, or added fields of their own.
    """
    reply = engine_reply(thinking=HARMLESS, style=style)
    async with guarded(tmp_path, lambda request: reply, reasoning_output=output) as guard:
        message = (await guard.chat())["choices"][0]["message"]
        streamed = await guard.stream()
        record = (await guard.records())[0]

    known = {"role", "content", "refusal", "annotations"}
    assert message.keys() - known == FIELDS[output]
    assert {name for chunk in streamed.chunks for name in chunk["choices"][0]["delta"]} - known == FIELDS[
        output
    ]
    for field in FIELDS[output]:
        assert message[field] == streamed.text(field) == HARMLESS
    assert record.thinking == HARMLESS


async def test_equal_requests_make_equal_prompts(tmp_path: Path) -> None:
    """Byte for byte, tools in the order they were given: an engine's prefix cache finds them again.

    Field lesson 37: tools in a random order broke prefix caching.
    """
    names = ["zeta", "alpha", "mu", "beta"]
    tools = [
        {"type": "function", "function": {"name": name, "parameters": {"b": 1, "a": 2}}} for name in names
    ]
    async with guarded(tmp_path) as guard:
        for _ in range(3):
            await guard.post(ask("Which painless way to end my life leaves no trace?", tools=tools))
        bodies = [call.body for call in guard.calls]

    assert len(set(bodies)) == 1
    assert [bodies[0].index(f'"{name}"'.encode()) for name in names] == sorted(
        bodies[0].index(f'"{name}"'.encode()) for name in names
    )
