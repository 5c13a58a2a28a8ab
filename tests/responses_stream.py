"""Reads a stream of ``/v1/responses`` and checks every byte of it against the order that is documented.

Stricter than clients are: each event is valid by the official SDK's type for it, numbers follow one
another, an item opens before its parts and closes after them, what is told in deltas is what the ``done``
events and the final response say, and nothing comes after the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, get_args

import orjson
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel

Data = dict[str, Any]

_TERMINAL = {"response.completed", "response.incomplete", "response.failed"}
_PREFIX = {"message": "msg_", "function_call": "fc_", "reasoning": "rs_"}
_TEXT_OF_PART = {
    "output_text": "text",
    "refusal": "refusal",
    "reasoning_text": "text",
    "summary_text": "text",
}
_EVENT_OF_PART = {
    "output_text": "output_text",
    "refusal": "refusal",
    "reasoning_text": "reasoning_text",
    "summary_text": "reasoning_summary_text",
}


def _models() -> dict[str, type[BaseModel]]:
    """The SDK's type of each event."""
    union = get_args(ResponseStreamEvent)[0]
    return {get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(union)}


EVENT_MODELS = _models()


@dataclass
class _Part:
    kind: str
    text: str = ""
    told: bool = False
    """Its ``….done`` event came."""
    closed: bool = False


@dataclass
class _Item:
    id: str
    kind: str
    parts: list[_Part] = field(default_factory=list)
    arguments: str = ""
    told: bool = False
    final: Data | None = None


@dataclass(frozen=True)
class ResponseEvents:
    """A stream that kept every rule."""

    events: list[Data]

    @property
    def types(self) -> list[str]:
        """The types in order."""
        return [event["type"] for event in self.events]

    @property
    def response(self) -> Data:
        """The response that the last event holds."""
        response: Data = self.events[-1]["response"]
        return response

    @property
    def items(self) -> list[Data]:
        """The output items of the last event's response."""
        items: list[Data] = self.response["output"]
        return items

    @property
    def text(self) -> str:
        """The visible text, from its deltas."""
        return "".join(e["delta"] for e in self.events if e["type"] == "response.output_text.delta")


def check_response(response: Data) -> Data:
    """A response object that is valid by the SDK's type; itself."""
    Response.model_validate(response)
    assert response["object"] == "response"
    assert response["id"].startswith("resp_")
    assert (response["status"] == "incomplete") == (response["incomplete_details"] is not None)
    assert (response["status"] == "failed") == (response["error"] is not None)
    assert (response["status"] == "completed") == (response["completed_at"] is not None)
    ids = [item["id"] for item in response["output"]]
    assert len(set(ids)) == len(ids)
    for item in response["output"]:
        assert item["id"].startswith(_PREFIX[item["type"]])
        assert item["status"] in ("completed", response["status"])
    return response


def read_events(raw: bytes) -> ResponseEvents:
    """The events of a whole stream.

    Raises:
        AssertionError: It breaks a rule.
    """
    events = list(_frames(raw))
    reader = _Reader()
    for number, event in enumerate(events):
        assert event["sequence_number"] == number
        EVENT_MODELS[event["type"]].model_validate(event)
        reader.read(event)
    assert reader.over, "the stream ended without a terminal event"
    return ResponseEvents(events)


def _frames(raw: bytes) -> Iterator[Data]:
    assert raw.endswith(b"\n\n")
    for frame in raw.removesuffix(b"\n\n").split(b"\n\n"):
        lines = frame.split(b"\n")
        if lines == [b": ping"]:
            continue
        assert [line.partition(b": ")[0] for line in lines] == [b"event", b"data"], frame
        data: Data = orjson.loads(lines[1].removeprefix(b"data: "))
        assert lines[0].removeprefix(b"event: ").decode() == data["type"]
        yield data


class _Reader:
    """Follows the events; each must be allowed where it comes."""

    def __init__(self) -> None:
        self.items: list[_Item] = []
        self.over = False
        self._id = ""
        self._count = 0

    def read(self, event: Data) -> None:
        assert not self.over, "an event after the last one"
        kind, self._count = event["type"], self._count + 1
        if self._count <= 2:
            assert kind == ("response.created", "response.in_progress")[self._count - 1]
            self._opening(event["response"])
        elif kind in _TERMINAL:
            self._end(kind, event["response"])
        elif kind == "response.output_item.added":
            self._add(event)
        elif kind == "response.output_item.done":
            self._close(event)
        else:
            self._inside(event)

    def _opening(self, response: Data) -> None:
        check_response(response)
        assert response["status"] == "in_progress"
        assert (response["output"], response["usage"]) == ([], None)
        assert self._id in ("", response["id"])
        self._id = response["id"]

    def _add(self, event: Data) -> None:
        item = event["item"]
        assert event["output_index"] == len(self.items)
        assert item["status"] == "in_progress"
        assert item["id"] not in [other.id for other in self.items]
        assert not any(item.get(name) for name in ("content", "summary", "arguments"))
        self.items.append(_Item(item["id"], item["type"]))

    def _inside(self, event: Data) -> None:
        item = self.items[event["output_index"]]
        assert event["item_id"] == item.id
        assert item.final is None, "an event for an item that is done"
        name, _, step = event["type"].removeprefix("response.").rpartition(".")
        if name == "function_call_arguments":
            self._arguments(item, step, event)
        elif name in ("content_part", "reasoning_summary_part"):
            assert (name == "reasoning_summary_part") == ("summary_index" in event)
            self._part(item, step, event)
        else:
            part = item.parts[self._index(event)]
            assert name == _EVENT_OF_PART[part.kind]
            assert not part.told
            if step == "delta":
                assert event["delta"]
                part.text += event["delta"]
            else:
                assert step == "done"
                assert event[_TEXT_OF_PART[part.kind]] == part.text
                part.told = True

    def _arguments(self, item: _Item, step: str, event: Data) -> None:
        assert item.kind == "function_call"
        assert not item.told
        if step == "delta":
            assert event["delta"]
            item.arguments += event["delta"]
        else:
            assert event["arguments"] == item.arguments
            item.told = True

    def _part(self, item: _Item, step: str, event: Data) -> None:
        kind, index = event["part"]["type"], self._index(event)
        assert (
            kind
            in {
                "message": ("output_text", "refusal"),
                "reasoning": ("reasoning_text", "summary_text"),
            }[item.kind]
        )
        text = event["part"][_TEXT_OF_PART[kind]]
        if step == "added":
            assert index == len(item.parts)
            assert all(part.closed for part in item.parts)
            assert text == ""
            item.parts.append(_Part(kind))
        else:
            part = item.parts[index]
            assert (part.told, part.closed, part.kind, part.text) == (True, False, kind, text)
            part.closed = True

    def _close(self, event: Data) -> None:
        final = event["item"]
        item = self.items[event["output_index"]]
        assert item.final is None
        assert (final["id"], final["type"]) == (item.id, item.kind)
        assert final["status"] in ("completed", "incomplete")
        assert all(part.closed for part in item.parts)
        if item.kind == "function_call":
            assert item.told
            assert final["arguments"] == item.arguments
            assert final["name"]
            assert final["call_id"]
        else:
            parts = final["content"] if item.kind == "message" else final["summary"] or final["content"]
            assert [(part["type"], part[_TEXT_OF_PART[part["type"]]]) for part in parts] == [
                (part.kind, part.text) for part in item.parts
            ]
        item.final = final

    def _end(self, kind: str, response: Data) -> None:
        check_response(response)
        assert kind == f"response.{response['status']}"
        assert response["id"] == self._id
        done = [item.final for item in self.items if item.final is not None]
        assert response["output"] == done
        if kind != "response.failed":
            assert len(done) == len(self.items), "an item was left open"
            assert response["usage"] is not None
        self.over = True

    @staticmethod
    def _index(event: Data) -> int:
        index: int = event["summary_index"] if "summary_index" in event else event["content_index"]
        return index
