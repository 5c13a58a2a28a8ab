"""A request in Anthropic's shape, in the terms of chat completions.

Turns of one role that follow each other become one, as Anthropic's API does, since many chat templates
demand that roles alternate. Tool results become messages of their own, before the rest of their turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, cast

import orjson

from guard.api.messages_request import Conversation, ToolChoice
from guard.pipeline.messages import Message

Block = dict[str, Any]

_THINKING = frozenset({"thinking", "redacted_thinking"})
"""What is not said to anybody: a turn that holds nothing else is none."""


def chat_messages(asked: Conversation) -> list[Message]:
    """The conversation, system prompt first."""
    system = _blocks(asked.system or "")
    messages = [{"role": "system", "content": _joined(system)}] if _joined(system) else []
    turns = [(message["role"], _blocks(message["content"])) for message in cast(list[Any], asked.messages)]
    turns = [(role, blocks) for role, blocks in turns if any(b["type"] not in _THINKING for b in blocks)]
    for role, group in groupby(turns, key=lambda turn: turn[0]):
        blocks = [block for _, turn in group for block in turn]
        if role == "user":
            messages.extend(_user(blocks))
        elif role == "assistant":
            messages.append(_assistant(blocks))
        else:
            messages.append({"role": "system", "content": _joined(blocks)})
    return messages


def chat_tools(asked: Conversation) -> list[dict[str, Any]] | None:
    """The tools."""
    return [_tool(tool) for tool in cast(list[Block], asked.tools or ())] or None


def chat_tool_choice(choice: ToolChoice | None) -> str | dict[str, Any] | None:
    """Whether tools may or must be used."""
    if choice is None:
        return None
    if choice["type"] == "tool":
        return {"type": "function", "function": {"name": choice["name"]}}
    return "required" if choice["type"] == "any" else choice["type"]


def chat_response_format(asked: Conversation) -> dict[str, Any] | None:
    """The JSON schema that the answer must fit."""
    wanted = asked.output_config.get("format") if asked.output_config else None
    if not wanted:
        return None
    schema = {"name": "output", "schema": wanted["schema"], "strict": True}
    return {"type": "json_schema", "json_schema": schema}


def chat_effort(asked: Conversation) -> str | None:
    """The reasoning effort; engines know three."""
    effort = asked.output_config.get("effort") if asked.output_config else None
    return "high" if effort in {"xhigh", "max"} else effort


def _tool(tool: Block) -> dict[str, Any]:
    function = {"name": tool["name"], "parameters": tool["input_schema"]}
    for field in ("description", "strict"):
        if tool.get(field) is not None:
            function[field] = tool[field]
    return {"type": "function", "function": function}


def _user(blocks: Sequence[Block]) -> Iterator[Message]:
    parts: list[Block] = []
    for block in blocks:
        if block["type"] != "tool_result":
            continue
        content = _blocks(block.get("content") or "")
        text = _joined(content)
        yield {
            "role": "tool",
            "tool_call_id": block["tool_use_id"],
            "content": f"Error: {text}" if block.get("is_error") else text,
        }
        images = [_image(part) for part in content if part["type"] == "image"]
        if images:
            parts += [{"type": "text", "text": f"From the tool call {block['tool_use_id']}:"}, *images]
    for block in blocks:
        if block["type"] == "text":
            parts.append({"type": "text", "text": block["text"]})
        elif block["type"] == "image":
            parts.append(_image(block))
    if any(part["type"] == "image_url" for part in parts):
        yield {"role": "user", "content": parts}
    elif parts:
        yield {"role": "user", "content": _joined(parts)}


def _assistant(blocks: Sequence[Block]) -> Message:
    """One message; the thinking in it goes to the record alone."""
    message: Message = {"role": "assistant", "content": _joined(blocks)}
    calls = [_call(block) for block in blocks if block["type"] == "tool_use"]
    if calls:
        message["tool_calls"] = calls
        message["content"] = message["content"] or None
    thinking = "\n".join(block["thinking"] for block in blocks if block["type"] == "thinking")
    if thinking:
        message["reasoning"] = thinking
    return message


def _call(block: Block) -> Block:
    arguments = orjson.dumps(block["input"]).decode()
    return {
        "id": block["id"],
        "type": "function",
        "function": {"name": block["name"], "arguments": arguments},
    }


def _image(block: Block) -> Block:
    source = block["source"]
    url = source.get("url") or f"data:{source['media_type']};base64,{''.join(source['data'].split())}"
    return {"type": "image_url", "image_url": {"url": url}}


def _blocks(content: Any) -> list[Block]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _joined(blocks: Iterable[Block]) -> str:
    """The texts, a line each; a single one as it is."""
    return "\n".join(block["text"] for block in blocks if block["type"] == "text")
