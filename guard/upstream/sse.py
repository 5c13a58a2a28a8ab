r"""Server-sent events, parsed from bytes as they arrive.

A stream may be split anywhere: inside a UTF-8 character, between CR and LF, inside the byte-order
mark. Nothing is decoded, so no split can damage text. The common case, whole ``data: …`` events in
one read, costs one ``bytes.split``; only what is unusual (comments, several lines, named events) is
looked at line by line.

Line ends are made LF first: a CR at the end of a read counts at once, and a LF that begins the next
read is then dropped. From there on an event ends at an empty line, which is ``\n\n``.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""The default limit: far above any chunk an engine sends, far below what would hurt."""

_BOM = b"\xef\xbb\xbf"


class EventTooLarge(ValueError):
    """An event grew over the limit; the stream cannot be followed any further."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event that its sender named (``event: error``)."""

    name: bytes
    data: bytes


class SseParser:
    """Turns reads of one stream into events; keeps at most one unfinished event."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        """Start at the beginning of a stream.

        Args:
            max_event_bytes: The largest event accepted, field names and comments included.
        """
        self._limit = max_event_bytes
        self._start: bytes | None = b""
        self._parts: list[bytes] = []
        self._size = 0
        self._skip_lf = False

    def feed(self, data: bytes) -> list[bytes | Event]:
        """The events that ``data`` completes, in order.

        Returns:
            The data of each unnamed event as bytes, each named event as an ``Event``.

        Raises:
            EventTooLarge: An event is over the limit; events that this call would have completed
                before it are lost with it.
        """
        if self._start is not None:
            data = self._after_bom(data)
        if self._skip_lf and data:
            self._skip_lf = False
            if data[0] == 10:
                data = data[1:]
        if data.find(b"\r") >= 0:  # ``in`` would first take the bytes for a number, and drop the exception
            self._skip_lf = data[-1] == 13
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if not data:
            return []
        if self._parts:
            data = self._joined(data)
        if data.find(b"\n\n") < 0:
            self._keep(data)
            return []
        if data[:6] == b"data: " and data[-2:] == b"\n\n" and len(data) <= self._limit:
            texts = data[6:-2].split(b"\n\ndata: ")
            if b"".join(texts).find(b"\n") < 0:  # nothing but whole events of one line
                return list(texts)
        *blocks, rest = data.split(b"\n\n")
        if rest:
            self._keep(rest)
        return self._events(blocks)

    def finish(self) -> list[bytes | Event]:
        """The event that the end of the body leaves without its empty line, if any.

        Browsers drop it; some servers end their last event with a single line end, and dropping
        that would lose an answer's last words. Only for bodies that ended as they should.

        Raises:
            EventTooLarge: The event is over the limit.
        """
        rest = (self._start or b"") + b"".join(self._parts)
        self._start, self._parts, self._size = b"", [], 0
        return self._events([rest.removesuffix(b"\n")])

    def _after_bom(self, data: bytes) -> bytes:
        data = (self._start or b"") + data
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._start = data
            return b""
        self._start = None
        return data.removeprefix(_BOM)

    def _joined(self, data: bytes) -> bytes:
        """What was kept and ``data``, joined only where that can end an event.

        An event that comes in many reads is then copied once, not once a read.
        """
        if b"\n\n" in data or (data[0] == 10 and self._parts[-1][-1] == 10):
            data = b"".join((*self._parts, data))
            self._parts.clear()
            self._size = 0
        return data

    def _keep(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > self._limit + 1:  # the one more is a line end that may yet become two
            raise EventTooLarge(f"an event of the engine's stream is over {self._limit} bytes")

    def _events(self, blocks: list[bytes]) -> list[bytes | Event]:
        events: list[bytes | Event] = []
        for block in blocks:
            if len(block) > self._limit:
                raise EventTooLarge(f"an event of the engine's stream is over {self._limit} bytes")
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append(block[6:])
            elif block:
                event = _parse(block)
                if event is not None:
                    events.append(event)
        return events


def _parse(block: bytes) -> bytes | Event | None:
    """The event of lines without their last line end; None where they hold no data."""
    data: list[bytes] = []
    name = b""
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    if not data:
        return None
    return Event(name, b"\n".join(data)) if name else b"\n".join(data)
