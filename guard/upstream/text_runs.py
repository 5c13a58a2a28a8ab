"""Chunks in a row that are alike but for their text, read in one step.

Nearly all chunks of a stream are the same bytes with another text between them. Decoding and checking the
first of them is enough: of those that follow, only the texts are decoded, all that arrived together at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import orjson

from guard.upstream.sse import Event

Chunk = dict[str, Any]
"""One ``chat.completion.chunk``, as the engine sent it."""

TEXT_FIELDS = ("content", "reasoning", "reasoning_content")
_KEYS = {field: b'"%b":' % field.encode() for field in TEXT_FIELDS}


class TextRun(NamedTuple):
    """What such chunks say."""

    like: Chunk
    """A chunk that differs from each of them in its text alone."""
    field: str
    """Where in the delta the text stands."""
    texts: list[str]
    """Of each chunk, in order; some may be empty."""

    def chunks(self) -> Iterator[Chunk]:
        """The chunks as the engine sent them."""
        return (_with_text(self.like, self.field, text) for text in self.texts)


def apart(batch: Iterable[Chunk | TextRun]) -> Iterator[Chunk]:
    """The same chunks one by one."""
    for item in batch:
        if isinstance(item, TextRun):
            yield from item.chunks()
        else:
            yield item


class TextForm(NamedTuple):
    """The bytes around the text of a chunk that brings nothing else."""

    like: Chunk
    field: str
    before: bytes
    after: bytes

    @classmethod
    def of(cls, event: bytes, chunk: Chunk) -> TextForm | None:
        """The form of a chunk; None where it brings anything beside one text.

        Args:
            event: Its bytes.
            chunk: The same, decoded and checked.
        """
        field = _only_text(chunk)
        if field is None:
            return None
        text = chunk["choices"][0]["delta"][field]
        written = orjson.dumps(text)
        start = event.find(written, event.find(_KEYS[field])) + 1
        before, after = event[:start], event[start + len(written) - 2 :]
        try:  # a form is one only if a change in this place changes the text and nothing else
            changed = orjson.loads(b"".join((before, b"?", written[1:-1], after)))
        except orjson.JSONDecodeError:
            return None
        return cls(chunk, field, before, after) if changed == _with_text(chunk, field, f"?{text}") else None

    def read(self, events: Sequence[bytes | Event], start: int) -> TextRun | None:
        """The events that have this form, from ``start`` to the first that has not; None where that is it."""
        before, after = self.before, self.after
        around = len(before) + len(after)
        parts: list[bytes] = []
        for event in islice(events, start, None):
            if isinstance(event, Event):
                break
            part = event.removeprefix(before).removesuffix(after)
            if len(event) - len(part) != around:
                break
            parts.append(part)
        texts = _decoded(parts) if parts else None
        return TextRun(self.like, self.field, texts) if texts else None


def _decoded(parts: list[bytes]) -> list[str] | None:
    """What stands between the quotation marks of JSON strings; None where one of them is no such thing.

    They are decoded as one array. It has as many elements as there are parts only if no part holds a
    quotation mark of its own; that none ends in half an escape, which would join it to the next, is seen to.
    """
    array = b'["%b"]' % b'","'.join(parts)
    if array.find(b'\\"') >= 0 and b'\\","' in array.replace(b"\\\\", b""):
        return None
    try:
        texts: list[str] = orjson.loads(array)
    except orjson.JSONDecodeError:
        return None
    return texts if len(texts) == len(parts) else None


def _only_text(chunk: Chunk) -> str | None:
    """The field of the text of a chunk that brings one text and nothing else."""
    choices = chunk["choices"]
    if len(choices) != 1 or chunk.get("usage"):
        return None
    (choice,) = choices
    delta = choice["delta"]
    if choice.get("finish_reason") or choice.get("logprobs") or delta.get("tool_calls"):
        return None
    found: str | None = None
    for name in TEXT_FIELDS:
        if delta.get(name):
            if found:
                return None
            found = name
    return found


def _with_text(chunk: Chunk, field: str, text: str) -> Chunk:
    """A chunk of one choice with another text."""
    (choice,) = chunk["choices"]
    return {**chunk, "choices": [{**choice, "delta": {**choice["delta"], field: text}}]}
