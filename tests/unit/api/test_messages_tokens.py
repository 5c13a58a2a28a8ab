"""The estimate of a prompt's tokens."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from guard.api.messages_tokens import TOKENS_PER_IMAGE, estimated_tokens
from guard.pipeline.exchange import Exchange


def _tokens(*messages: Any, system: str = "", **sampling: Any) -> int:
    exchange = Exchange(
        "gr-1",
        "messages",
        "app",
        "default",
        False,
        [dict(message) for message in messages],
        datetime.now(UTC),
        time.perf_counter(),
        sampling=sampling,
    )
    return estimated_tokens(system, exchange)


def _user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_an_english_sentence_counts_about_a_token_for_four_letters() -> None:
    """Within a third of what tokenizers of small models give."""
    assert 8 < _tokens(_user("How do I sharpen an old kitchen knife?")) < 24


def test_text_outside_ascii_counts_a_token_each() -> None:
    """Too low a count would run a client into the context limit; CJK takes about one a character."""
    assert _tokens(_user("研ぎ方を教えて")) - _tokens(_user("")) == 7


def test_everything_in_the_prompt_counts() -> None:
    """Policy, tools, tool calls, images and later turns each add to the count."""
    plain = _tokens(_user("Hi."))
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    call = {"function": {"name": "look", "arguments": '{"at": "' + "x" * 100 + '"}'}}

    assert _tokens(_user("Hi."), system="x" * 410) == plain + 100
    assert _tokens(_user("Hi."), tools=[{"type": "function"}]) > plain
    assert _tokens(_user("Hi."), {"role": "assistant", "content": None, "tool_calls": [call]}) > plain + 25
    assert _tokens(_user([{"type": "text", "text": "Hi."}, image])) == plain + TOKENS_PER_IMAGE


def test_the_applications_system_prompt_counts_once() -> None:
    """It is part of the composed system prompt, so the message it came in adds nothing."""
    system = {"role": "system", "content": "Be brief."}

    assert _tokens(system, _user("Hi."), system="Be brief.") == _tokens(_user("Hi."), system="Be brief.")
