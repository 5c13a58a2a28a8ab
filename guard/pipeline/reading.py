"""Read one engine call: which part of each chunk is thinking, answer or tool call.

Thinking comes as ``reasoning`` (vLLM since 0.16), ``reasoning_content`` (older engines, others) or as raw
``<think>`` text inside the content; all three are read at once, since an engine with a reasoning
parser may still let tags through.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from guard.deliberation.thinking import REOPENING, Split, ThinkingSplitter
from guard.pipeline.usage import Usage


@dataclass(frozen=True, slots=True)
class Piece:
    """What one chunk brought for the choice."""

    thinking: str = ""
    answer: str = ""
    tools: list[dict[str, Any]] | None = None
    tokens: int = 0
    """Tokens in this chunk: by the engine's running usage where it reports one, else 1 if it holds text."""
    probabilities: list[Any] | None = None
    """What the engine says of the tokens up to the end of the answer, some of them of the thinking's end."""


_NOTHING = Split()
_TEXT_FIELDS = ("reasoning", "reasoning_content", "content")

JOINED = 16
"""Chunks in one piece at most: by so many tokens a thinking may go over its budget."""


class CallReader:
    """Reads the chunks of one call with one choice."""

    def __init__(self, *, thinking_opened: bool, joining: bool = False) -> None:
        """Start at the beginning of a stream.

        Args:
            thinking_opened: The prompt ends inside the thinking (the chat template opened it).
            joining: Chunks that come together may become one piece; not where tokens are counted.
        """
        self._joining = joining
        self._splitter = ThinkingSplitter(opened=thinking_opened)
        self._by_field = False
        """A thinking came in a field of its own, and none in the content so far."""
        self._counted = 0
        self._told: list[Any] = []
        """Token probabilities whose text has not come yet."""
        self.finish_reason = ""
        self.usage = Usage()
        self.usage_reported = False

    def read_batch(self, chunks: list[dict[str, Any]]) -> list[Piece]:
        """Take chunks that came together; the pieces they bring, without empty ones."""
        counted = runs(chunks) if self._joining else ((chunk, 1) for chunk in chunks)
        return [piece for chunk, count in counted for piece in self.read(chunk, count)]

    def read(self, chunk: dict[str, Any], count: int = 1) -> list[Piece]:
        """Take one chunk, which may stand for several of the engine's.

        Returns:
            Mostly one piece; none for a chunk without text, more where thinking follows an answer in it.
        """
        completion = self._read_usage(chunk.get("usage"))
        choices = chunk["choices"]
        if not choices:
            return []
        choice = choices[0]
        if choice.get("finish_reason"):
            self.finish_reason = choice["finish_reason"]
        if told := choice.get("logprobs"):
            self._told += _entries(told)
        delta = choice["delta"]
        thinking = delta.get("reasoning") or delta.get("reasoning_content") or ""
        content = delta.get("content")
        tools = delta.get("tool_calls") or None
        if not (thinking or content or tools):
            return []
        tokens = count if completion is None else max(completion - self._counted, 0)
        self._counted += tokens
        self._by_field = self._by_field or bool(thinking)
        first, *later = self._splitter.parts(content) if content else [_NOTHING]
        if first.thinking and self._by_field:
            thinking += REOPENING
            self._by_field = False
        pieces = [Piece(thinking + first.thinking, first.answer, None if later else tools, tokens)]
        pieces += [Piece(*part) for part in later]
        if later and tools:
            pieces.append(Piece(tools=tools))
        return self._with_probabilities(pieces) if self._told else pieces

    def close(self) -> Piece:
        """What was held back at the end of the stream."""
        split = self._splitter.close()
        return self._with_probabilities([Piece(split.thinking, split.answer)])[0]

    def final_usage(self) -> Usage:
        """The engine's usage, or the tokens counted where it reported none."""
        return self.usage if self.usage_reported else Usage(completion=self._counted)

    def _with_probabilities(self, pieces: list[Piece]) -> list[Piece]:
        """The pieces, the first with an answer also with what was told; a thinking's is forgotten."""
        for at, piece in enumerate(pieces):
            if piece.answer:
                pieces[at] = replace(piece, probabilities=self._told or None)
                self._told = []
                break
            if piece.thinking:
                self._told = []
        return pieces

    def _read_usage(self, usage: dict[str, Any] | None) -> int | None:
        if not usage:
            return None
        prompt = usage.get("prompt_tokens_details") or {}
        completion = usage.get("completion_tokens_details") or {}
        self.usage_reported = True
        self.usage = Usage(
            prompt=usage.get("prompt_tokens") or 0,
            completion=usage.get("completion_tokens") or 0,
            reasoning=completion.get("reasoning_tokens") or 0,
            cached=prompt.get("cached_tokens") or 0,
        )
        return self.usage.completion


def _entries(told: Any) -> list[Any]:
    content = told.get("content") if isinstance(told, dict) else None
    return content if isinstance(content, list) else []


def runs(chunks: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], int]]:
    """The same chunks with neighbours that bring nothing but text of one kind made one, and how many it was.

    What a chunk says beside text (usage, finish reason, tool calls, both kinds of text) keeps it apart.
    """
    texts: list[str] = []
    field = ""
    for chunk in chunks:
        kind = _plain_text(chunk)
        if texts and (kind != field or len(texts) == JOINED):
            yield _run(field, texts), len(texts)
            texts = []
        if kind is None:
            yield chunk, 1
        elif kind:
            field = kind
            texts.append(chunk["choices"][0]["delta"][kind])
    if texts:
        yield _run(field, texts), len(texts)


def _plain_text(chunk: dict[str, Any]) -> str | None:
    """The field of a chunk that holds text and nothing else; empty where it holds nothing at all."""
    choices = chunk["choices"]
    if len(choices) != 1 or chunk.get("usage") or choices[0].get("finish_reason"):
        return None
    delta = choices[0]["delta"]
    if len(delta) == 1:  # what nearly every chunk looks like
        ((name, text),) = delta.items()
        if name in _TEXT_FIELDS:
            return name if text else ""
    if delta.get("tool_calls"):
        return None
    fields = [name for name in _TEXT_FIELDS if delta.get(name)]
    return None if len(fields) > 1 else "".join(fields)


def _run(field: str, texts: list[str]) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {field: "".join(texts)}, "finish_reason": None}]}
