"""Read one engine call: which part of each chunk is thinking, answer or tool call.

Thinking comes as ``reasoning`` (vLLM since 0.16), ``reasoning_content`` (older engines, others) or as raw
``<think>`` text inside the content; all three are read at once, since an engine with a reasoning
parser may still let tags through.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from guard.deliberation.thinking import REOPENING, Split, ThinkingSplitter
from guard.pipeline.usage import Usage
from guard.upstream.text_runs import Chunk, TextRun


class Piece(NamedTuple):
    """What one chunk brought for the choice."""

    thinking: str = ""
    answer: str = ""
    tools: list[dict[str, Any]] | None = None
    tokens: int = 0
    """Tokens in this chunk: by the engine's running usage where it reports one, else 1 if it holds text."""
    probabilities: list[Any] | None = None
    """What the engine says of the tokens up to the end of the answer, some of them of the thinking's end."""


_NOTHING = Split()

JOINED = 16
"""Chunks in one piece at most: by so many tokens a thinking may go over its budget."""


class CallReader:
    """Reads the chunks of one call with one choice."""

    def __init__(self, *, thinking_opened: bool, joining: bool = False) -> None:
        """Start at the beginning of a stream.

        Args:
            thinking_opened: The prompt ends inside the thinking (the chat template opened it).
            joining: The chunks of a run may become one piece; not where tokens are counted.
        """
        self._joining = joining
        self._splitter = ThinkingSplitter(opened=thinking_opened)
        self._by_field = False
        """A thinking came in a field of its own, and none in the content so far."""
        self._answering = False
        """The answer has begun."""
        self._counted = 0
        self._told: list[Any] = []
        """Token probabilities whose text has not come yet."""
        self.finish_reason = ""
        self.usage = Usage()
        self.usage_reported = False

    def read_batch(self, batch: list[Chunk | TextRun]) -> list[Piece]:
        """Take chunks that came together; the pieces they bring, without empty ones."""
        pieces: list[Piece] = []
        for item in batch:
            pieces += self._read_run(item) if isinstance(item, TextRun) else self.read(item)
        return pieces

    def read(self, chunk: Chunk) -> list[Piece]:
        """Take one chunk.

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
        tokens = 1 if completion is None else max(completion - self._counted, 0)
        pieces = self._pieces(thinking, content, tools, tokens)
        if completion is not None and not self._answering:
            self._charge(pieces)
        return pieces

    def _read_run(self, run: TextRun) -> list[Piece]:
        texts = list(filter(None, run.texts))
        size = JOINED if self._joining else 1
        pieces: list[Piece] = []
        for at in range(0, len(texts), size):
            some = texts[at : at + size]
            text = "".join(some)
            thinking, content = ("", text) if run.field == "content" else (text, None)
            pieces += self._pieces(thinking, content, None, len(some))
        return pieces

    def _pieces(
        self, thinking: str, content: str | None, tools: list[dict[str, Any]] | None, tokens: int
    ) -> list[Piece]:
        self._counted += tokens
        self._by_field = self._by_field or bool(thinking)
        parts = self._splitter.parts(content) if content else [_NOTHING]
        first, *later = self._set_apart(parts) if self._by_field else parts
        pieces = [Piece(thinking + first.thinking, first.answer, None if later else tools, tokens)]
        pieces += [Piece(*part) for part in later]
        if later and tools:
            pieces.append(Piece(tools=tools))
        return self._with_probabilities(pieces) if self._told else pieces

    def _charge(self, pieces: list[Piece]) -> None:
        """Count what begins an answer after a thinking as one token; its chunk counts the end of that too."""
        at = next((at for at, piece in enumerate(pieces) if piece.answer or piece.tools), None)
        if at is not None:
            self._answering = True
            if self._by_field or self._splitter.begun:
                pieces[at] = pieces[at]._replace(tokens=min(pieces[at].tokens, 1))

    def _set_apart(self, parts: list[Split]) -> list[Split]:
        """The parts of a content, the first thinking among them marked as another than the field's."""
        for at, part in enumerate(parts):
            if part.thinking:
                self._by_field = False
                return [*parts[:at], Split(REOPENING + part.thinking, part.answer), *parts[at + 1 :]]
        return parts

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
                pieces[at] = piece._replace(probabilities=self._told or None)
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
