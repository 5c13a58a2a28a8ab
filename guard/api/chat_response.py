"""Chat completions as OpenAI writes them, whole and in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from guard.api.answer import Gathered
from guard.api.moderation_result import chat_moderation
from guard.errors import ApiError
from guard.pipeline.events import AnswerText, Decided, Event, Finished, ThinkingText, ToolCalls
from guard.pipeline.exchange import Prepared
from guard.pipeline.usage import Usage, total

DONE = b"data: [DONE]\n\n"


class Shape(NamedTuple):
    """How the answers of one request are written."""

    reasoning_fields: tuple[str, ...]
    """Fields that show the thinking; none hides it."""
    include_usage: bool
    """Whether a stream ends with a usage chunk."""
    structured: bool
    """The client parses the content, so a refusal of the guard goes into ``refusal`` alone."""
    probabilities: bool = False
    """The client wants those of the answer's tokens."""
    judge: str = ""
    """The model named in ``moderation``; empty where that was not asked for."""
    blocks: bool = False
    """What the guard refuses ends with ``content_filter``, as the client asked by ``moderation``."""


def error_frame(error: ApiError) -> bytes:
    """What closes a stream that fails, and no ``[DONE]``: what came before is not a whole answer."""
    return b"data: " + orjson.dumps(error.body()) + b"\n\n"


def head(prepared: Prepared, kind: str) -> dict[str, Any]:
    """The fields that a completion and each of its chunks begin with."""
    exchange = prepared.exchange
    return {
        "id": f"chatcmpl-{exchange.request_id}",
        "object": kind,
        "created": int(exchange.started_at.timestamp()),
        "model": exchange.model,
        "system_fingerprint": f"fp_{prepared.snapshot.policy.digest[:12]}",
    }


def completion(prepared: Prepared, choices: list[Gathered], shape: Shape) -> bytes:
    """The body of an answer that is not streamed."""
    usages = [choice.finished.usage for choice in choices if choice.finished]
    body = head(prepared, "chat.completion")
    body["choices"] = [_choice(index, choice, shape) for index, choice in enumerate(choices)]
    body["usage"] = total(usages).body()
    if shape.judge:
        body["moderation"] = chat_moderation(prepared, choices, shape.judge)
    return orjson.dumps(body)


def _choice(index: int, choice: Gathered, shape: Shape) -> dict[str, Any]:
    text = "".join(choice.answer)
    refused = choice.decided is not None and choice.decided.refused
    parsed = refused and shape.structured
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if parsed or (choice.tools and not text) else text,
        "refusal": text if parsed else None,
        "annotations": [],
    }
    if choice.tools:
        message["tool_calls"] = choice.tools
    thinking = "".join(choice.thinking)
    for name in shape.reasoning_fields:
        message[name] = thinking
    reason = choice.finished.reason if choice.finished else "stop"
    if refused and shape.blocks:
        reason = "content_filter"
    logprobs = _logprobs(choice.probabilities) if shape.probabilities else None
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason}


def _logprobs(pieces: Sequence[list[dict[str, Any]] | None]) -> dict[str, Any] | None:
    """The field of a choice or a delta; None where they cannot be told of its whole text."""
    told = [piece for piece in pieces if piece is not None]
    if not told or len(told) < len(pieces):
        return None
    return {"content": [token for piece in told for token in piece], "refusal": None}


class ChunkWriter:
    """Writes the chunks of one stream; knows which choices have begun."""

    def __init__(self, prepared: Prepared, shape: Shape) -> None:
        """Nothing is written yet."""
        self._prepared = prepared
        self._head = head(prepared, "chat.completion.chunk")
        self._shape = shape
        self._begun: set[int] = set()
        self._refused: set[int] = set()
        self._usages: list[Usage] = []
        self._choices: dict[int, Gathered] = {}
        """Kept for ``moderation`` alone."""

    def frames(self, index: int, event: Event) -> bytes:
        """The server-sent events for one event of a choice; empty where nothing is shown."""
        if self._shape.judge:
            self._choices.setdefault(index, Gathered()).add(event)
        match event:
            case ThinkingText(text):
                if not self._shape.reasoning_fields:
                    return b""
                return self._delta(index, dict.fromkeys(self._shape.reasoning_fields, text))
            case AnswerText(text, probabilities):
                parsed = index in self._refused and self._shape.structured
                name = "refusal" if parsed else "content"
                logprobs = _logprobs([probabilities]) if self._shape.probabilities else None
                return self._delta(index, {name: text}, logprobs=logprobs)
            case ToolCalls(deltas):
                return self._delta(index, {"tool_calls": deltas})
            case Decided(_, refused):
                if refused:
                    self._refused.add(index)
                return b""
            case Finished(reason, usage):
                self._usages.append(usage)
                if index in self._refused and self._shape.blocks:
                    reason = "content_filter"
                return self._delta(index, {}, reason)

    def end(self) -> bytes:
        """Chunks of moderation and of usage, where they were asked for, and ``[DONE]``."""
        last = b""
        if self._shape.judge:
            choices = [self._choices[index] for index in sorted(self._choices)]
            last = self._frame([], moderation=chat_moderation(self._prepared, choices, self._shape.judge))
        if self._shape.include_usage:
            last += self._frame([], total(self._usages).body())
        return last + DONE

    def failed(self, error: ApiError) -> bytes:
        """What closes the stream when an error comes after its beginning."""
        return error_frame(error)

    def _delta(
        self,
        index: int,
        delta: dict[str, Any],
        reason: str | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> bytes:
        opening = b""
        if index not in self._begun:
            self._begun.add(index)
            opening = self._frame([_delta(index, {"role": "assistant", "content": "", "refusal": None})])
        return opening + self._frame([_delta(index, delta, reason, logprobs)])

    def _frame(
        self, choices: list[dict[str, Any]], usage: dict[str, object] | None = None, **more: Any
    ) -> bytes:
        chunk = {**self._head, "choices": choices, **more}
        if self._shape.include_usage:
            chunk["usage"] = usage
        return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _delta(
    index: int, delta: dict[str, Any], reason: str | None = None, logprobs: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
