"""The output items of one response, as they grow event by event, and the stream events that tell of it.

Streamed and whole answers take the same way through here, so they cannot differ. Stream events come
without their ``sequence_number``, and must be used before the next one is asked for: they show items
that go on growing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from guard.api.responses_call import WrittenCall, unreadable
from guard.api.responses_ids import item_id
from guard.pipeline.events import AnswerText, Decided, Event, Finished, ThinkingText, ToolCalls

StreamEvent = dict[str, Any]

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why a response is not complete, by finish reason; every other reason completes it."""


class Shown(StrEnum):
    """How the thinking is shown."""

    HIDDEN = "hidden"
    TEXT = "text"
    SUMMARY = "summary"


class _Form(NamedTuple):
    """What items and events of shown thinking are called."""

    field: str
    part: str
    part_event: str
    text_event: str
    position: str


_FORMS = {
    Shown.TEXT: _Form("content", "reasoning_text", "content_part", "reasoning_text", "content_index"),
    Shown.SUMMARY: _Form(
        "summary", "summary_text", "reasoning_summary_part", "reasoning_summary_text", "summary_index"
    ),
}


@dataclass(slots=True)
class _Open:
    """An item of text that is being written."""

    index: int
    text: list[str] = field(default_factory=list)


class Output:
    """Builds the items of one response."""

    def __init__(self, response_id: str, first: int, shown: Shown, *, structured: bool) -> None:
        """Nothing is there yet.

        Args:
            response_id: Whose items they are.
            first: The number of the first item's id; those before it belong to the input.
            shown: How the thinking is shown.
            structured: The client parses the answer, so a refusal of the guard gets a part of its own.
        """
        self.items: list[dict[str, Any]] = []
        self.status = "in_progress"
        self.incomplete: str | None = None
        """Why the response is not complete, once it has ended so."""
        self._response_id = response_id
        self._first = first
        self._shown = shown
        self._structured = structured
        self._refused = False
        self._thought: _Open | None = None
        self._said: _Open | None = None
        self._calls: dict[int, WrittenCall] = {}

    def take(self, event: Event) -> Iterator[StreamEvent]:
        """The stream events for one event of the choice.

        Raises:
            UpstreamError: The engine's tool calls cannot be understood.
        """
        match event:
            case ThinkingText(text):
                if text and self._shown is not Shown.HIDDEN:
                    yield from self._think(text)
            case Decided(_, refused):
                self._refused = refused and self._structured
                yield from self._end_thought()
            case AnswerText(text):
                if text:
                    yield from self._say(text)
            case ToolCalls(deltas):
                for delta in deltas:
                    yield from self._call(delta)
            case Finished(reason):
                yield from self._finish(reason)

    def _think(self, text: str) -> Iterator[StreamEvent]:
        form = _FORMS[self._shown]
        if self._thought is None:
            self._thought = _Open(len(self.items))
            yield self._added("rs", {"type": "reasoning", "summary": [], form.field: []})
            yield self._thought_event(form.part_event, "added", part={"type": form.part, "text": ""})
        self._thought.text.append(text)
        yield self._thought_event(form.text_event, "delta", delta=text)

    def _end_thought(self) -> Iterator[StreamEvent]:
        if self._thought is None:
            return
        form, text = _FORMS[self._shown], "".join(self._thought.text)
        part = {"type": form.part, "text": text}
        yield self._thought_event(form.text_event, "done", text=text)
        yield self._thought_event(form.part_event, "done", part=part)
        self.items[self._thought.index][form.field] = [part]
        yield self._done(self._thought.index, "completed")
        self._thought = None

    def _thought_event(self, name: str, step: str, **fields: Any) -> StreamEvent:
        assert self._thought is not None
        at = {**self._at(self._thought.index), _FORMS[self._shown].position: 0}
        return {"type": f"response.{name}.{step}", **at, **fields}

    def _say(self, text: str) -> Iterator[StreamEvent]:
        if self._said is None:
            yield from self._end_calls()
            yield from self._begin_message()
        assert self._said is not None
        self._said.text.append(text)
        delta = {
            "type": f"response.{self._part_name}.delta",
            **self._at(self._said.index),
            "content_index": 0,
        }
        yield delta | {"delta": text} | self._logprobs

    def _begin_message(self) -> Iterator[StreamEvent]:
        self._said = _Open(len(self.items))
        yield self._added("msg", {"type": "message", "role": "assistant", "content": []})
        at = self._at(self._said.index)
        yield {"type": "response.content_part.added", **at, "content_index": 0, "part": self._part("")}

    def _end_message(self, status: str = "completed") -> Iterator[StreamEvent]:
        if self._said is None:
            return
        index, text = self._said.index, "".join(self._said.text)
        at = {**self._at(index), "content_index": 0}
        field_name = "refusal" if self._refused else "text"
        yield {"type": f"response.{self._part_name}.done", **at, field_name: text, **self._logprobs}
        part = self._part(text)
        yield {"type": "response.content_part.done", **at, "part": part}
        self.items[index]["content"] = [part]
        yield self._done(index, status)
        self._said = None

    @property
    def _part_name(self) -> str:
        return "refusal" if self._refused else "output_text"

    @property
    def _logprobs(self) -> dict[str, list[Any]]:
        return {} if self._refused else {"logprobs": []}

    def _part(self, text: str) -> dict[str, Any]:
        if self._refused:
            return {"type": "refusal", "refusal": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def _call(self, delta: dict[str, Any]) -> Iterator[StreamEvent]:
        number, function = delta.get("index", 0), delta.get("function") or {}
        call = self._calls.get(number)
        if call is None:
            yield from self._end_message()
            yield from self._end_calls()
            call = self._calls[number] = WrittenCall()
        arguments = function.get("arguments") or ""
        if call.closed:
            if arguments.strip():
                raise unreadable("the engine went on with a tool call that was whole")
            return
        call.call_id = call.call_id or delta.get("id") or ""
        if call.index < 0 and function.get("name"):
            call.index, call.name = len(self.items), function["name"]
            call.call_id = call.call_id or f"call_{self._response_id[5:]}{call.index:04x}"
            item = {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": ""}
            yield self._added("fc", item)
            arguments = call.arguments + arguments
            call.arguments = ""
        call.arguments += arguments
        if arguments and call.index >= 0:
            event = {"type": "response.function_call_arguments.delta", **self._at(call.index)}
            yield event | {"delta": arguments}

    def _end_calls(self, *, all_of_them: bool = False, cut: bool = False) -> Iterator[StreamEvent]:
        """Close the calls that are whole; one that is not may be gone on with after the next."""
        for call in self._calls.values():
            if call.closed or not (all_of_them or call.readable):
                continue
            if call.index < 0:
                if cut:
                    continue
                raise unreadable("a tool call in the engine's answer has no name")
            at = {**self._at(call.index), "arguments": call.arguments}
            yield {"type": "response.function_call_arguments.done", **at}
            self.items[call.index]["arguments"] = call.arguments
            yield self._done(call.index, "incomplete" if cut and not call.readable else "completed")
            call.closed = True

    def _finish(self, reason: str) -> Iterator[StreamEvent]:
        self.incomplete = _INCOMPLETE.get(reason)
        self.status = "incomplete" if self.incomplete else "completed"
        yield from self._end_thought()
        yield from self._end_message(self.status)
        yield from self._end_calls(all_of_them=True, cut=self.incomplete is not None)
        if self.status == "completed" and all(item["type"] == "reasoning" for item in self.items):
            yield from self._begin_message()
            yield from self._end_message()

    def _added(self, prefix: str, item: dict[str, Any]) -> StreamEvent:
        number = self._first + len(self.items)
        item = {"id": item_id(prefix, self._response_id, number), **item, "status": "in_progress"}
        self.items.append(item)
        index = len(self.items) - 1
        return {"type": "response.output_item.added", "output_index": index, "item": item}

    def _done(self, index: int, status: str) -> StreamEvent:
        self.items[index]["status"] = status
        return {"type": "response.output_item.done", "output_index": index, "item": self.items[index]}

    def _at(self, index: int) -> dict[str, Any]:
        return {"item_id": self.items[index]["id"], "output_index": index}
