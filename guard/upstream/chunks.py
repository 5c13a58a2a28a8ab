"""From the bytes of a streamed chat completion to its checked chunks; no I/O.

A stream that breaks must never look like a short answer. So the reader knows when an answer is whole:
at ``[DONE]``, or, for engines that send none, at the end of the body, and both only once every
choice that began has a finish reason. Anything else is an error with the reason in its code:

    engine_failed           the engine says so itself (``data: {"error": …}``)
    engine_stream_broken    the stream ended before the answer did
    engine_bad_answer       what arrived cannot be understood
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from guard.errors import UpstreamError
from guard.upstream.refusal import failed_while_answering
from guard.upstream.sse import Event, EventTooLarge, SseParser
from guard.upstream.text_runs import TEXT_FIELDS, Chunk, TextForm, TextRun

_GIVEN_UP = frozenset({"abort", "error"})
"""Finish reasons of answers that are not whole: vLLM's and SGLang's own, unknown to OpenAI's API."""
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


class ChunkReader:
    """Reads one stream."""

    def __init__(self) -> None:
        """Start at the beginning of a stream."""
        self.done = False
        """Whether ``[DONE]`` was read; what follows it is not looked at."""
        self.begun = False
        """Whether anything was generated; the chunk with the role may come long before that."""
        self._parser = SseParser()
        self._form: TextForm | None = None
        """What the last chunk looked like that brought nothing but text."""
        self._seen: set[int] = set()
        self._finished: set[int] = set()

    def feed(self, data: bytes) -> Iterator[Chunk | TextRun]:
        """The chunks that ``data`` completes, those that only go on with a text as runs.

        Consume it before feeding on.

        Raises:
            UpstreamError: At the place in the stream where the engine reports an error, or where
                it cannot be understood.
        """
        try:
            events = self._parser.feed(data)
        except EventTooLarge as error:
            raise bad_answer(str(error)) from error
        return self._chunks(events)

    def finish(self) -> Iterator[Chunk | TextRun]:
        """The chunks left at the orderly end of the body, and the check that the answer is whole.

        Raises:
            UpstreamError: The answer is not whole.
        """
        if not self.done:
            try:
                events = self._parser.finish()
            except EventTooLarge as error:
                raise bad_answer(str(error)) from error
            yield from self._chunks(events)
        if not self._finished or not self._seen <= self._finished:
            raise broken("The engine ended its stream before it had finished the answer.")

    def check(self, value: object) -> Chunk:
        """A decoded event as a chunk.

        Raises:
            UpstreamError: It is an error, or no chunk of a chat completion.
        """
        if not isinstance(value, dict):
            raise bad_answer("an event of the engine's stream is no JSON object")
        if value.get("error") or value.get("object") == "error":
            raise failed_while_answering(value)
        choices = value.get("choices")
        if not isinstance(choices, list):
            raise bad_answer("an event of the engine's stream has no choices")
        if (usage := value.get("usage")) and not _counts(usage):
            raise bad_answer("the usage in the engine's stream is malformed")
        for choice in choices:
            if not isinstance(choice, dict) or not isinstance(index := choice.get("index", 0), int):
                raise bad_answer("a choice in the engine's stream is malformed")
            if not isinstance(delta := choice.get("delta"), dict):
                choice["delta"] = delta = {}
            for name in TEXT_FIELDS:
                text = delta.get(name)
                if text is not None and not isinstance(text, str):
                    raise bad_answer(f"{name} in the engine's stream is no text")
            self._seen.add(index)
            if reason := choice.get("finish_reason"):
                if not isinstance(reason, str):
                    raise bad_answer("a finish reason in the engine's stream is no text")
                if reason in _GIVEN_UP:
                    raise broken("The engine gave its answer up before it was whole.")
                self._finished.add(index)
                self.begun = True
            elif not self.begun:
                self.begun = any(value for name, value in delta.items() if name != "role")
        return value

    def _chunks(self, events: list[bytes | Event]) -> Iterator[Chunk | TextRun]:
        at = 0
        while at < len(events) and not self.done:
            run = self._form.read(events, at) if self._form else None
            item = run or self._single(events, at)
            if item is not None:
                yield item
            at += len(item.texts) if isinstance(item, TextRun) else 1

    def _single(self, events: list[bytes | Event], at: int) -> Chunk | TextRun | None:
        """The chunk at this place, or the run that it begins; None for an event that is no chunk."""
        event = events[at]
        if isinstance(event, Event):
            if event.name == b"error":
                raise failed_while_answering(event.data.decode("utf-8", "replace"))
            return None
        if event[:1] == b"[" and event.strip() == b"[DONE]":
            self.done = True
            return None
        if not event:
            return None
        chunk = self.check(_loads(event))
        form = TextForm.of(event, chunk)
        if form is None:
            return chunk
        self._form = form
        return form.read(events, at) or chunk


def completion_chunk(body: bytes) -> Chunk:
    """A whole ``chat.completion`` as the one chunk a stream could have brought it in.

    Raises:
        UpstreamError: The body is an error or something else.
    """
    value = _loads(body)
    if not isinstance(value, dict) or value.get("object") != "chat.completion":
        if isinstance(value, dict) and value.get("error"):
            raise failed_while_answering(value)
        raise bad_answer("the engine's answer is neither a stream nor a chat completion")
    choices = value.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise bad_answer("the engine's chat completion has no choices")
    value["object"] = "chat.completion.chunk"
    value["choices"] = [_as_delta(choice) for choice in choices]
    return value


def broken(message: str) -> UpstreamError:
    """The error for a stream that ended before the answer did."""
    return UpstreamError(message, code="engine_stream_broken")


def bad_answer(detail: str) -> UpstreamError:
    """The error for an answer that cannot be understood; ``detail`` is for the log."""
    error = UpstreamError(
        "The engine sent an answer that is not a chat completion.", code="engine_bad_answer"
    )
    error.add_note(detail)
    return error


def _as_delta(choice: Mapping[str, Any]) -> dict[str, Any]:
    """A choice of a completion as a choice of a chunk."""
    rest = {key: value for key, value in choice.items() if key != "message"}
    message = choice.get("message")
    delta = dict(message) if isinstance(message, dict) else {}
    calls = delta.get("tool_calls")
    if isinstance(calls, list):
        delta["tool_calls"] = [
            {"index": at, **call} if isinstance(call, dict) else call for at, call in enumerate(calls)
        ]
    return {**rest, "delta": delta}


def _counts(usage: object) -> bool:
    """Whether what is read of a usage are numbers; what else stands in it does not matter."""
    if not isinstance(usage, dict):
        return False
    prompt = usage.get("prompt_tokens_details") or {}
    completion = usage.get("completion_tokens_details") or {}
    if not (isinstance(prompt, dict) and isinstance(completion, dict)):
        return False
    for count in (*map(usage.get, _COUNTS), prompt.get("cached_tokens"), completion.get("reasoning_tokens")):
        if count is not None and not isinstance(count, int):
            return False
    return True


def _loads(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise bad_answer(f"not JSON: {error}") from error
