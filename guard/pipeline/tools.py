"""Tool calls as engines stream them, made fit for clients: none begins without a name and an id."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from guard.errors import UpstreamError

Delta = dict[str, Any]
"""A piece of one tool call in OpenAI's streaming shape."""


MOST_CALLS = 1000
"""Calls in one answer; a higher index is a fault of the engine's."""


@dataclass(slots=True)
class _Call:
    name: str = ""
    id: str = ""
    waiting: list[Delta] = field(default_factory=list)
    """What came before the name."""


class CallNamer:
    """Holds back the pieces of a call until its name is known, since clients look for it in the first."""

    def __init__(self, spare_id: str) -> None:
        """Nothing has come yet.

        Args:
            spare_id: What the ids of calls begin with to which the engine gives none.
        """
        self._spare_id = spare_id
        self._calls: dict[int, _Call] = {}
        self._places: dict[int, int] = {}
        """The engine's index to the number of a call; clients get them numbered from 0."""

    def take(self, deltas: list[Delta]) -> list[Delta]:
        """The pieces that may be released now.

        Raises:
            UpstreamError: They are no pieces of tool calls.
        """
        released: list[Delta] = []
        for delta in deltas:
            index, function = _read(delta)
            name = function.get("name") or ""
            index, call = self._call(index, name, delta.get("id") or "")
            if call.name:
                again = {"name"} if name == call.name else set()
                function = {key: value for key, value in function.items() if key not in again}
                released.append({**delta, "index": index, "function": function})
            elif name:
                call.name = name
                released.append(self._first(index, [*call.waiting, delta]))
                call.waiting.clear()
            else:
                call.waiting.append(delta)
        return released

    def _call(self, index: int, name: str, call_id: str) -> tuple[int, _Call]:
        """The call that a piece belongs to, and its number; a name with another id begins a new one."""
        place = self._places.get(index)
        if place is None or (name and call_id and self._calls[place].id not in ("", call_id)):
            place = self._places[index] = len(self._calls)
            if place == MOST_CALLS:
                raise _unreadable(f"the engine's answer calls more than {MOST_CALLS} tools")
            self._calls[place] = _Call()
        call = self._calls[place]
        call.id = call.id or call_id
        return place, call

    def check(self) -> None:
        """Go on only if nothing is held back; the answer is over.

        Raises:
            UpstreamError: A call never got a name.
        """
        if any(call.waiting for call in self._calls.values()):
            raise _unreadable("a tool call in the engine's answer has no name")

    def _first(self, index: int, deltas: list[Delta]) -> Delta:
        """One piece that begins a call: all that has come of it."""
        functions = [delta.get("function") or {} for delta in deltas]
        call_id = next((delta["id"] for delta in deltas if delta.get("id")), f"{self._spare_id}{index}")
        function = {"name": self._calls[index].name}
        arguments = "".join(function.get("arguments") or "" for function in functions)
        if arguments:
            function["arguments"] = arguments
        return {"index": index, "id": call_id, "type": "function", "function": function}


def _read(delta: Any) -> tuple[int, dict[str, Any]]:
    """The index of the call that a piece belongs to, and what it brings."""
    index = (delta.get("index") or 0) if isinstance(delta, dict) else None
    function = (delta.get("function") or {}) if isinstance(delta, dict) else None
    if not (isinstance(index, int) and 0 <= index < MOST_CALLS and isinstance(function, dict)):
        raise _unreadable("a piece of a tool call in the engine's answer is malformed")
    for text in (delta.get("id"), function.get("name"), function.get("arguments")):
        if not isinstance(text, str | None):
            raise _unreadable("a text of a tool call in the engine's answer is none")
    return index, function


def _unreadable(detail: str) -> UpstreamError:
    error = UpstreamError("The engine sent a tool call that cannot be understood.", code="engine_bad_answer")
    error.add_note(detail)
    return error
