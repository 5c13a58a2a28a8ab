"""What a scripted engine answers: data only, played by the engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Literal, Self


@dataclass(frozen=True, slots=True)
class Pause:
    """Send nothing for a while."""

    seconds: float


class Halt(Enum):
    """Steps that end a reply without finishing it."""

    STALL = "stall"
    RESET = "reset"
    CLOSE = "close"


STALL = Halt.STALL
"""Keep the connection open and send nothing more until the client leaves."""
RESET = Halt.RESET
"""Reset the connection (TCP RST)."""
CLOSE = Halt.CLOSE
"""Close the connection in order (TCP FIN), whatever is still owed."""

Step = bytes | Pause | asyncio.Event | Halt


@dataclass(frozen=True)
class Reply:
    """One answer: the head, then steps."""

    steps: tuple[Step, ...] = ()
    """The body. ``bytes`` steps are body bytes; each is one chunk of a chunked answer."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    framing: Literal["chunked", "length", "close", "raw"] = "chunked"
    """``length`` adds Content-Length, ``close`` ends the body by closing, ``raw`` sends the steps as
    the whole answer, head included."""
    before: tuple[Step, ...] = ()
    """Steps taken before the head is sent: a slow first byte, a reset without any answer."""

    @classmethod
    def sse(cls, events: Iterable[Step], **head: Any) -> Self:
        """A ``text/event-stream`` answer, one chunk an event."""
        headers = {"content-type": "text/event-stream; charset=utf-8"}
        return cls(steps=tuple(events), headers=headers, **head)

    @classmethod
    def json(cls, body: object, status: int = 200, **headers: str) -> Self:
        """A JSON answer; underscores in header names become hyphens."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        data = json.dumps(body).encode()
        return cls((data,), status, {"content-type": "application/json", **names}, "length")

    @classmethod
    def drop(cls, how: Halt = CLOSE) -> Self:
        """No answer at all: close, reset or stall once the request has been read."""
        return cls(before=(how,))

    def reset_after(self, count: int, how: Halt = RESET) -> Self:
        """The same reply, broken off after ``count`` bytes of its body."""
        steps: list[Step] = []
        for step in self.steps:
            if isinstance(step, bytes):
                step, count = step[:count], count - len(step)
            steps.append(step)
            if count <= 0:
                break
        return replace(self, steps=(*steps, how))

    def split(self, size: int) -> Self:
        """The same reply with its body bytes cut into chunks of ``size``."""
        steps: list[Step] = []
        for step in self.steps:
            if isinstance(step, bytes):
                steps += [step[at : at + size] for at in range(0, len(step), size)]
            else:
                steps.append(step)
        return replace(self, steps=tuple(steps))

    def head(self) -> bytes:
        """The status line and the headers; nothing where the steps bring their own."""
        if self.framing == "raw":
            return b""
        headers = dict(self.headers)
        if self.framing == "chunked":
            headers["transfer-encoding"] = "chunked"
        elif self.framing == "length":
            size = sum(len(step) for step in self.steps if isinstance(step, bytes))
            headers["content-length"] = str(size)
        else:
            headers["connection"] = "close"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {self.status} Scripted\r\n{lines}\r\n".encode("latin-1")
