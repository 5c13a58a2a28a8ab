"""A tool call as an engine writes it, delta by delta."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from guard.errors import UpstreamError


@dataclass(slots=True)
class WrittenCall:
    """A call that grows."""

    index: int = -1
    """Among the output items; negative before its name is known."""
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    closed: bool = False

    @property
    def readable(self) -> bool:
        """Whether the arguments are whole."""
        try:
            orjson.loads(self.arguments)
        except orjson.JSONDecodeError:
            return False
        return True


def unreadable(detail: str) -> UpstreamError:
    """The error for calls that make no sense; ``detail`` is for the log."""
    error = UpstreamError("The engine sent a tool call that cannot be understood.", code="engine_bad_answer")
    error.add_note(detail)
    return error
