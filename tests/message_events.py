"""Reads a stream in Anthropic's protocol, and insists on the order of its events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
_DELTAS = {
    "text": {"text_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
}


@dataclass
class MessageStream:
    """One stream, read to its end."""

    message: dict[str, Any] = field(default_factory=dict)
    """The message that a client puts together."""
    error: dict[str, Any] | None = None
    """The error that ended it, if one did."""
    pings: int = 0
    blocks: int = 0

    @property
    def text(self) -> str:
        """The visible text."""
        return "".join(block["text"] for block in self.message["content"] if block["type"] == "text")


def read_message_stream(raw: bytes) -> MessageStream:
    """Check the whole stream.

    A message starts once; blocks are numbered from 0, one after the other, each opened, filled with
    its own kind of delta and closed; then comes one ``message_delta`` with the stop reason, and
    ``message_stop`` ends it. An ``error`` ends it at any place. Pings are anywhere after the start.
    """
    stream, over = MessageStream(), False
    opened: dict[str, Any] | None = None
    arguments = ""
    for name, data in _events(raw):
        assert not over, f"{name} after the end"
        assert data["type"] == name
        if name == "error":
            assert data.keys() == {"type", "error"}
            stream.error, over = data["error"], True
            continue
        if name == "message_start":
            assert not stream.message, "a second message_start"
            stream.message = dict(data["message"], content=[])
            assert data["message"]["content"] == []
            assert data["message"]["stop_reason"] is None
            _EVENT.validate_python(data)
            continue
        assert stream.message, f"{name} before message_start"
        if name == "ping":
            stream.pings += 1
            continue
        _EVENT.validate_python(data)
        ended = stream.message["stop_reason"] is not None
        if name == "content_block_start":
            assert opened is None, "a block inside a block"
            assert not ended
            assert data["index"] == stream.blocks
            opened, arguments = dict(data["content_block"]), ""
        elif name == "content_block_delta":
            assert opened is not None
            assert data["index"] == stream.blocks
            delta = data["delta"]
            assert delta["type"] in _DELTAS[opened["type"]]
            if delta["type"] == "input_json_delta":
                arguments += delta["partial_json"]
            else:
                kind = delta["type"].removesuffix("_delta")
                assert not (kind == "thinking" and opened["signature"]), "thinking after its signature"
                opened[kind] += delta[kind]
        elif name == "content_block_stop":
            assert opened is not None
            assert data["index"] == stream.blocks
            if opened["type"] == "tool_use":
                opened["input"] = arguments
            assert opened["type"] != "thinking" or opened["signature"]
            stream.message["content"].append(opened)
            stream.blocks, opened = stream.blocks + 1, None
        elif name == "message_delta":
            assert opened is None, "an open block at the end"
            assert not ended, "a second message_delta"
            assert data["delta"]["stop_reason"] is not None
            stream.message |= data["delta"]
            stream.message["usage"] |= data["usage"]
        else:
            assert name == "message_stop"
            assert ended, "message_stop before message_delta"
            over = True
    assert over, "the stream just ends"
    return stream


def _events(raw: bytes) -> list[tuple[str, dict[str, Any]]]:
    events = []
    for block in raw.split(b"\n\n")[:-1]:
        first, second = block.split(b"\n")
        assert first.startswith(b"event: ")
        assert second.startswith(b"data: ")
        events.append((first[7:].decode(), orjson.loads(second[6:])))
    assert raw.endswith(b"\n\n")
    return events
