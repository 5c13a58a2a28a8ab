"""The client's messages, as retrieval reads them and as the engine gets them.

Nothing in them can pass for policy or thinking: tags are disarmed in every text, earlier thinking is
dropped from assistant turns, and reasoning fields are not passed on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from guard.deliberation.thinking import split_thinking
from guard.policy.compose import disarm

Message = dict[str, Any]
"""One chat message in OpenAI's shape, validated."""

_SYSTEM = frozenset({"system", "developer"})
_FORWARDED = ("role", "name", "tool_call_id", "tool_calls")


def query_texts(messages: Sequence[Message]) -> tuple[str, ...]:
    """Every text in the conversation, newest first; what retrieval searches with."""
    return tuple(text for message in reversed(messages) for text in _texts(message))


def _texts(message: Message) -> Iterator[str]:
    content = message.get("content")
    if isinstance(content, str):
        yield content
    elif content:
        yield "\n".join(part["text"] for part in content if part["type"] == "text")
    for call in message.get("tool_calls") or ():
        yield call["function"]["arguments"]


def system_text(messages: Sequence[Message]) -> str:
    """The application's own system prompt: the system and developer messages that open the chat."""
    parts: list[str] = []
    for message in messages:
        if message["role"] not in _SYSTEM:
            break
        parts.extend(_texts(message))
    return "\n\n".join(parts)


def engine_messages(messages: Sequence[Message], system: str, reminder: str = "") -> list[Message]:
    """The messages as the engine gets them.

    Args:
        messages: The client's, validated.
        system: The composed system prompt, which already holds the client's leading system
            messages; empty where there is none to send.
        reminder: What a retry adds after the last message.
    """
    start = 0
    while start < len(messages) and messages[start]["role"] in _SYSTEM:
        start += 1
    composed = [_engine_message(message) for message in messages[start:]]
    if reminder:
        _append(composed, f"\n\n<policy>\n{reminder}\n</policy>")
    if system:
        composed.insert(0, {"role": "system", "content": system})
    return composed


def _engine_message(message: Message) -> Message:
    out = {key: disarm_all(message[key]) for key in _FORWARDED if message.get(key) is not None}
    if out["role"] == "developer":
        out["role"] = "system"
    content = message.get("content")
    if isinstance(content, str):
        out["content"] = disarm(split_thinking(content).answer if out["role"] == "assistant" else content)
    else:
        out["content"] = None if content is None else [_engine_part(part) for part in content]
    return out


def _engine_part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "refusal":
        return {"type": "text", "text": disarm(part["refusal"])}
    return {**part, "text": disarm(part["text"])} if part["type"] == "text" else part


def disarm_all(value: Any) -> Any:
    """A JSON value with every text in it disarmed; tool definitions and calls reach the prompt too."""
    if isinstance(value, str):
        return disarm(value)
    if isinstance(value, dict):
        return {disarm(key): disarm_all(item) for key, item in value.items()}
    if isinstance(value, list):
        return [disarm_all(item) for item in value]
    return value


def _append(messages: list[Message], text: str) -> None:
    """Add text to the last user message, or as a user message of its own."""
    last = messages[-1] if messages else None
    if last is None or last["role"] != "user":
        messages.append({"role": "user", "content": text.strip()})
    elif isinstance(last["content"], str):
        last["content"] += text
    else:
        last["content"] = [*last["content"], {"type": "text", "text": text.strip()}]
