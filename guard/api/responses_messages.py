"""The items of a conversation as chat messages, which is what retrieval and engines read.

Reasoning items give nothing: thinking is never taken from a client, nor from an earlier turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from guard.errors import InvalidRequest
from guard.pipeline.messages import Message

Item = Mapping[str, Any]


def messages_of(instructions: str | None, items: Iterable[Item]) -> list[Message]:
    """The conversation as chat messages.

    Args:
        instructions: The application's prompt for this turn.
        items: Of all turns, oldest first; checked, and without references.

    Raises:
        InvalidRequest: A result belongs to no call, or there is nothing to answer.
    """
    messages: list[Message] = []
    called: set[str] = set()
    for item in items:
        match item.get("type") or "message":
            case "message":
                messages.append(_message(item))
            case "function_call" if item.get("status") != "incomplete":
                # One that a token limit cut has no arguments an engine could read.
                called.add(item["call_id"])
                _add_call(messages, item)
            case "function_call_output":
                if item["call_id"] not in called:
                    raise InvalidRequest(
                        f"There is no function call {item['call_id']!r} before its output.", param="input"
                    )
                messages.append(_result(item))
    if not messages:
        raise InvalidRequest("The input holds nothing to answer.", param="input")
    if instructions:
        messages.insert(0, {"role": "system", "content": instructions})
    return messages


def chat_tools(tools: Sequence[Item] | None, choice: str | Item | None) -> list[dict[str, Any]] | None:
    """The functions that the model may call, in the shape of chat completions; None where there is none.

    Args:
        tools: As the client gave them.
        choice: Its choice; ``allowed_tools`` leaves only those.
    """
    allowed = None
    if isinstance(choice, Mapping) and choice["type"] == "allowed_tools":
        allowed = {tool["name"] for tool in choice["tools"]}
    chosen = [tool for tool in tools or () if allowed is None or tool["name"] in allowed]
    names = ("name", "description", "parameters", "strict")
    functions = [{name: tool[name] for name in names if tool.get(name) is not None} for tool in chosen]
    return [{"type": "function", "function": function} for function in functions] or None


def chat_tool_choice(tools: Sequence[Item] | None, choice: str | Item | None) -> str | Item | None:
    """The choice among the tools in the shape of chat completions; None where there are none."""
    if not tools or choice is None or isinstance(choice, str):
        return choice if tools else None
    if choice["type"] == "allowed_tools":
        return str(choice["mode"])
    return {"type": "function", "function": {"name": choice["name"]}}


def response_format(wanted: Item | None) -> dict[str, Any] | None:
    """``text.format`` in the shape of chat completions."""
    if wanted is None or wanted["type"] != "json_schema":
        return dict(wanted) if wanted else None
    schema = {name: value for name, value in wanted.items() if name != "type" and value is not None}
    return {"type": "json_schema", "json_schema": schema}


def _message(item: Item) -> Message:
    role, content = item["role"], item["content"]
    if isinstance(content, str):
        return {"role": role, "content": content}
    if role == "assistant":
        # One text, as ``output_text`` joins it, so that a forged thinking in it is dropped.
        texts = (part["text"] if part["type"] == "output_text" else part["refusal"] for part in content)
        return {"role": role, "content": "".join(texts)}
    return {"role": role, "content": _chat_content(content)}


def _chat_content(parts: Sequence[Item]) -> str | list[dict[str, Any]]:
    """Parts as chat content; texts alone are one text, since many chat templates know no parts."""
    if all(part["type"] == "input_text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return [_part(part) for part in parts]


def _part(part: Item) -> dict[str, Any]:
    if part["type"] == "input_text":
        return {"type": "text", "text": part["text"]}
    image = {"url": part["image_url"]}
    if part.get("detail"):
        image["detail"] = part["detail"]
    return {"type": "image_url", "image_url": image}


def _add_call(messages: list[Message], item: Item) -> None:
    """Add a call to the assistant's turn that it belongs to, or begin one."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    function = {"name": item["name"], "arguments": item["arguments"]}
    calls = messages[-1].setdefault("tool_calls", [])
    calls.append({"id": item["call_id"], "type": "function", "function": function})


def _result(item: Item) -> Message:
    output = item["output"]
    content = output if isinstance(output, str) else _chat_content(output)
    return {"role": "tool", "tool_call_id": item["call_id"], "content": content}
