"""An answer as content blocks in a stream: numbered, one open at a time, none opened twice.

Engines send thinking, text and tool calls in any order and may mix several calls; Anthropic's stream
has one block after the other. So the oldest block that may still grow is open, and what belongs to
later ones waits. Text and thinking end where something else begins; a tool call ends when its
arguments are whole.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import orjson

from guard.errors import UpstreamError


def event(name: str, data: dict[str, Any]) -> bytes:
    """One server-sent event, named as its data says."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps({"type": name, **data}) + b"\n\n"


_DELTAS = {
    "thinking": ("thinking_delta", "thinking"),
    "text": ("text_delta", "text"),
    "tool_use": ("input_json_delta", "partial_json"),
}
"""Type of the delta and its field, by kind of block."""


class Block:
    """One content block, as far as it has come."""

    def __init__(self, kind: str) -> None:
        """Nothing of it is written yet.

        Args:
            kind: ``thinking``, ``text`` or ``tool_use``.
        """
        self.kind = kind
        self.text = ""
        """Everything so far: text, or a tool's arguments."""
        self.id = ""
        self.name = ""
        self.index: int | None = None
        """Its number, once it has begun."""
        self._written = 0

    @property
    def whole(self) -> bool:
        """Whether nothing more can belong to it once another block has begun."""
        if self.kind != "tool_use":
            return True
        try:
            orjson.loads(self.text)
        except orjson.JSONDecodeError:
            return False
        return True

    def write(self, next_index: int, *, last: bool) -> bytes:
        """The events for what was added since.

        Args:
            next_index: Its number, should it not have begun.
            last: Nothing more will be added, so that it is opened even if it is empty.
        """
        new = self.text[self._written :]
        if not new and not last:
            return b""
        events = b""
        if self.index is None:
            self.index = next_index
            events = event("content_block_start", {"index": next_index, "content_block": self._head()})
        if new:
            kind, field = _DELTAS[self.kind]
            self._written = len(self.text)
            events += event("content_block_delta", {"index": self.index, "delta": {"type": kind, field: new}})
        return events

    def stop(self, signature: str) -> bytes:
        """The events that end it."""
        events = b""
        if self.kind == "thinking":
            delta = {"type": "signature_delta", "signature": signature}
            events = event("content_block_delta", {"index": self.index, "delta": delta})
        return events + event("content_block_stop", {"index": self.index})

    def _head(self) -> dict[str, Any]:
        if self.kind == "thinking":
            return {"type": "thinking", "thinking": "", "signature": ""}
        if self.kind == "text":
            return {"type": "text", "text": ""}
        if not self.name:
            raise bad_call("called a tool without naming it")
        return {"type": "tool_use", "id": self.id, "name": self.name, "input": {}}


class ContentBlocks:
    """The blocks of one answer."""

    def __init__(self, signature: str) -> None:
        """Nothing is written yet.

        Args:
            signature: What a thinking block is signed with.
        """
        self._signature = signature
        self._waiting: deque[Block] = deque()
        """The open block, then those that wait for its end."""
        self._tools: dict[int, Block] = {}
        self._begun = 0

    def add(self, kind: str, text: str) -> bytes:
        """Events for a piece of ``thinking`` or ``text``."""
        if not self._waiting or self._waiting[-1].kind != kind:
            self._waiting.append(Block(kind))
        self._waiting[-1].text += text
        return self._advance()

    def add_tools(self, deltas: list[dict[str, Any]]) -> bytes:
        """Events for tool-call deltas in OpenAI's shape."""
        for delta in deltas:
            index, function = delta.get("index", 0), delta.get("function") or {}
            block = self._tools.get(index)
            if block is None:
                block = self._tools[index] = Block("tool_use")
                block.id = f"toolu_{self._signature}_{index}"
                self._waiting.append(block)
            block.id = delta.get("id") or block.id
            block.name += function.get("name") or ""
            arguments = function.get("arguments") or ""
            if block in self._waiting:
                block.text += arguments
            elif arguments.strip():
                raise bad_call("went on with a tool call that was whole")
        return self._advance()

    def close(self) -> bytes:
        """Events for all that waits, each block to its end."""
        events = b""
        while self._waiting:
            events += self._end_first()
        return events

    def _advance(self) -> bytes:
        events = b""
        while len(self._waiting) > 1 and self._waiting[0].whole:
            events += self._end_first()
        if self._waiting:
            events += self._write_first(last=False)
        return events

    def _end_first(self) -> bytes:
        events = self._write_first(last=True)
        return events + self._waiting.popleft().stop(self._signature)

    def _write_first(self, *, last: bool) -> bytes:
        block = self._waiting[0]
        events = block.write(self._begun, last=last)
        if block.index == self._begun:
            self._begun += 1
        return events


def bad_call(what: str) -> UpstreamError:
    """The error for a tool call that no client could run.

    Args:
        what: What the engine did.
    """
    return UpstreamError(f"The engine {what}.", code="engine_bad_answer")
