"""Input items as they are kept and listed: each with an id, a type and its content in parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from guard.api.responses_ids import item_id

Item = dict[str, Any]


def kept_items(given: str | Sequence[Mapping[str, Any]], response: str) -> list[Item]:
    """The input of a request as items.

    Args:
        given: Checked, and without references; a text is one user message.
        response: The id of the response to it.
    """
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    return [_kept(item, response, number) for number, item in enumerate(given)]


def _kept(item: Mapping[str, Any], response: str, number: int) -> Item:
    match item.get("type") or "message":
        case "message":
            prefix, kept = "msg", {"type": "message", "content": _parts(item)}
        case "function_call":
            prefix, kept = "fc", {}
        case "function_call_output":
            prefix, kept = "fco", {}
        case _:
            return {"summary": [], **item, "id": item.get("id") or item_id("rs", response, number)}
    own = item.get("id") or item_id(prefix, response, number)
    return {**item, **kept, "id": own, "status": item.get("status") or "completed"}


def _parts(item: Mapping[str, Any]) -> list[Item]:
    content = item["content"]
    if item["role"] == "assistant":
        content = [{"type": "output_text", "text": content}] if isinstance(content, str) else content
        return [{"annotations": [], **part} if part["type"] == "output_text" else part for part in content]
    content = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
    return [{"detail": "auto", **part} if part["type"] == "input_image" else part for part in content]
