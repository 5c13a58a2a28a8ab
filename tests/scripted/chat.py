"""The bodies of streamed chat completions, byte-exact as engines send them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Literal

ReasoningStyle = Literal["reasoning", "reasoning_content", "think"]
"""How an engine hands out thinking: vLLM now, vLLM before and others, no parser (raw tags)."""


def sse_event(data: object) -> bytes:
    """One event of a stream; anything but text is written as JSON."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"data: {text}\n\n".encode()


DONE = sse_event("[DONE]")


def chat_events(
    content: str | Sequence[str] = "Hello.",
    reasoning: str | Sequence[str] = "",
    *,
    style: ReasoningStyle = "reasoning",
    finish: str | None = "stop",
    tool_calls: Sequence[tuple[str, str, str]] = (),
    usage: bool = True,
    done: bool = True,
    index: int = 0,
    model: str = "scripted",
) -> list[bytes]:
    """The events of one streamed chat completion, shaped like vLLM's.

    Args:
        content: The answer; a text is cut into words, a sequence is sent as it is.
        reasoning: The thinking, likewise.
        style: In which field the thinking arrives, or as raw ``<think>`` tags in the content.
        finish: The finish reason; None leaves the finish chunk out, as in a broken stream.
        tool_calls: Triples of id, name and JSON arguments, sent as vLLM does: first the name, then
            the arguments in two pieces.
        usage: Whether a usage chunk with empty choices follows.
        done: Whether ``[DONE]`` ends the stream.
        index: The choice's index.
        model: The model's name in every chunk.
    """
    thoughts, words = _pieces(reasoning), _pieces(content)
    if style == "think" and thoughts:
        words = ["<think>", *thoughts, "</think>", *words]
        thoughts = []
    deltas: list[dict[str, object]] = [{"role": "assistant", "content": ""}]
    deltas += [{style: piece} for piece in thoughts]
    deltas += [{"content": piece} for piece in words]
    for at, (call_id, name, arguments) in enumerate(tool_calls):
        function = {"name": name}
        deltas.append(
            {"tool_calls": [{"index": at, "id": call_id, "type": "function", "function": function}]}
        )
        middle = len(arguments) // 2
        for part in (arguments[:middle], arguments[middle:]):
            deltas.append({"tool_calls": [{"index": at, "function": {"arguments": part}}]})
    head = {"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 1, "model": model}
    events = [
        sse_event(head | {"choices": [{"index": index, "delta": delta, "finish_reason": None}]})
        for delta in deltas
    ]
    if finish:
        choice = {"index": index, "delta": {}, "finish_reason": finish, "stop_reason": None}
        events.append(sse_event(head | {"choices": [choice]}))
    if usage:
        made = len(thoughts) + len(words)
        counts = {"prompt_tokens": 7, "completion_tokens": made, "total_tokens": 7 + made}
        events.append(sse_event(head | {"choices": [], "usage": counts}))
    if done:
        events.append(DONE)
    return events


def _pieces(text: str | Sequence[str]) -> list[str]:
    return re.findall(r"\s*\S+|\s+$", text) if isinstance(text, str) else list(text)
