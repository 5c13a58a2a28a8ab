"""The client's messages, as retrieval reads them and as the engine gets them.

Nothing in them can pass for policy or thinking: tags are disarmed in every text, earlier thinking is
dropped from assistant turns, and reasoning fields are not passed on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import orjson

from guard.deliberation.thinking import split_thinking
from guard.policy.compose import disarm

Message = dict[str, Any]
"""One chat message in OpenAI's shape, validated."""

_SYSTEM = frozenset({"system", "developer"})
_NOTED = frozenset({"user", "tool"})
_FORWARDED = ("role", "name", "tool_call_id", "tool_calls")


def query_texts(messages: Sequence[Message], constraint: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Every text in the conversation, newest first; what retrieval searches with.

    Args:
        messages: The client's, validated.
        constraint: What a grammar enforces; the words of a schema come after the newest text, since a
            schema can ask for as much as a message.
    """
    texts = [text for message in reversed(messages) for text in (*_content(message), *_calls(message))]
    form = answer_form(constraint or {})
    if form:
        texts.insert(1, "\n".join(word for word in strings(form) if word not in _SCHEMA_WORDS))
    return tuple(texts)


def client_texts(messages: Sequence[Message], *more: Any) -> Iterator[str]:
    """Everything that the client wrote itself, in any order.

    Args:
        messages: The client's, validated.
        more: JSON values beside them, such as tools.
    """
    yield from query_texts(messages)
    yield from (orjson.dumps(value).decode() for value in more)


def answer_form(constraint: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The JSON schema with its name and description that the client's answer must fit, if any."""
    wanted = constraint.get("response_format")
    return wanted["json_schema"] if wanted and wanted["type"] == "json_schema" else None


def system_text(messages: Sequence[Message]) -> str:
    """The application's own system prompt: the system and developer messages that open the chat."""
    parts: list[str] = []
    for message in messages:
        if message["role"] not in _SYSTEM:
            break
        parts.extend(_content(message))
    return "\n\n".join(parts)


def form_text(constraint: Mapping[str, Any]) -> str:
    """What the model is told of the schema that its answer must fit; empty where there is none.

    A grammar would enforce it unseen, so that the thinking would not know what it decides about.
    """
    form = answer_form(constraint)
    return f"{_FORM}\n{orjson.dumps(form).decode()}" if form else ""


_SCHEMA_WORDS = frozenset(
    "name schema strict type object array string number integer boolean null properties items prefixItems "
    "required additionalProperties enum const anyOf oneOf allOf not $ref $defs definitions description title "
    "default examples pattern format minLength maxLength minimum maximum minItems maxItems".split()
)
"""What says nothing about what a schema asks for."""
_FORM = (
    "The answer will be held to this JSON schema. It comes from the client and is part of the request: what "
    "its names, descriptions and fixed values ask for is asked for."
)


def _content(message: Message) -> Iterator[str]:
    """The text of a message, several parts as one."""
    content = message.get("content")
    if isinstance(content, str):
        yield content
    elif content:
        yield "\n".join(part.get("text") or part.get("refusal") or "" for part in content)


def _calls(message: Message) -> Iterator[str]:
    """The names and arguments of a message's tool calls, as words."""
    for call in message.get("tool_calls") or ():
        function = call["function"]
        try:
            arguments = "\n".join(strings(orjson.loads(function["arguments"])))
        except orjson.JSONDecodeError:
            arguments = function["arguments"]
        yield f"{function['name']}\n{arguments}"


def strings(value: Any) -> list[str]:
    """Every text in a JSON value, names included, in order."""
    found: list[str] = []
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, Mapping):
            stack.extend(part for pair in reversed(list(item.items())) for part in reversed(pair))
        elif isinstance(item, list):
            stack.extend(reversed(item))
    return found


def engine_messages(
    messages: Sequence[Message],
    system: str,
    reminder: str = "",
    decoded: Mapping[str, str] = MappingProxyType({}),
) -> list[Message]:
    """The messages as the engine gets them.

    Args:
        messages: The client's, validated.
        system: The composed system prompt, which already holds the client's leading system
            messages; empty where there is none to send.
        reminder: What a retry adds after the last message.
        decoded: What is added after texts of users and tools, by text: it stands where the text stands,
            and has no more authority.
    """
    start = 0
    while start < len(messages) and messages[start]["role"] in _SYSTEM:
        start += 1
    composed = [_engine_message(_noted(message, decoded)) for message in messages[start:]]
    if reminder:
        _append(composed, f"\n\n<policy>\n{reminder}\n</policy>")
    if system:
        composed.insert(0, {"role": "system", "content": system})
    return composed


def _noted(message: Message, notes: Mapping[str, str]) -> Message:
    """The message with the notes on its texts after them, also where they stand among other words."""
    content = message.get("content")
    if not (notes and content and message["role"] in _NOTED):
        return message
    for text, note in notes.items():
        if isinstance(content, str):
            content = content.replace(text, text + note, 1)
        elif text == next(_content({"content": content}), None):
            content = [*content, {"type": "text", "text": note.strip()}]
        else:
            content = [_noted_part(part, text, note) for part in content]
    return {**message, "content": content}


def _noted_part(part: dict[str, Any], text: str, note: str) -> dict[str, Any]:
    if part["type"] != "text":
        return part
    return {**part, "text": part["text"].replace(text, text + note, 1)}


def _engine_message(message: Message) -> Message:
    out = {key: disarm_all(message[key]) for key in _FORWARDED if message.get(key) is not None}
    if out["role"] == "developer":
        out["role"] = "system"
    content, assistant = message.get("content"), out["role"] == "assistant"
    if isinstance(content, str):
        out["content"] = _engine_text(content, assistant=assistant)
    else:
        parts = content if content is None else [_engine_part(part, assistant=assistant) for part in content]
        out["content"] = parts
    return out


def _engine_part(part: dict[str, Any], *, assistant: bool) -> dict[str, Any]:
    if part["type"] not in {"text", "refusal"}:
        return part
    return {"type": "text", "text": _engine_text(part[part["type"]], assistant=assistant)}


def _engine_text(text: str, *, assistant: bool) -> str:
    return disarm(split_thinking(text).answer if assistant else text)


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
