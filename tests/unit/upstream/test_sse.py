from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.upstream.sse import Event, EventTooLarge, SseParser

STREAMS = st.lists(
    st.sampled_from(
        [
            b"data: ",
            b"data:",
            b"data",
            b"event: error",
            b"event",
            b"id: 1",
            b": ping",
            b"retry: 10",
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b" ",
            b'{"a":1}',
            b"[DONE]",
            b"\xef\xbb\xbf",
            "déjà 漢字 🙂".encode(),
            b"\x00",
        ]
    ),
    max_size=40,
).map(b"".join)


def events_of(*reads: bytes, limit: int = 1000) -> list[bytes | Event]:
    """All events of a stream that arrives in these reads."""
    parser = SseParser(limit)
    return [event for data in reads for event in parser.feed(data)] + parser.finish()


def by_the_letter(stream: bytes) -> list[bytes | Event]:
    """The specification's own algorithm, line by line, as an oracle."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    found: list[bytes | Event] = []
    data: list[bytes] = []
    name = b""
    for line in text.split(b"\n"):
        if not line:
            if data:
                joined = b"\n".join(data)
                found.append(Event(name, joined) if name else joined)
            data, name = [], b""
            continue
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    if data:  # the one departure: an end of body ends the last event too
        joined = b"\n".join(data)
        found.append(Event(name, joined) if name else joined)
    return found


@settings(deadline=None)
@given(STREAMS)
def test_one_read_gives_what_the_specification_says(stream: bytes) -> None:
    """A stream read at once gives the events that the specification's line algorithm gives."""
    assert events_of(stream) == by_the_letter(stream)


@settings(deadline=None)
@given(STREAMS, st.data())
def test_any_split_gives_the_same_events(stream: bytes, draw: st.DataObject) -> None:
    """Cutting a stream at any bytes, empty reads included, changes none of its events.

    Field lesson 51: characters, line ends and events may be cut anywhere.
    """
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    reads = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert events_of(*reads) == events_of(stream)


@settings(deadline=None)
@given(STREAMS)
def test_byte_by_byte_gives_the_same_events(stream: bytes) -> None:
    """A stream that arrives one byte at a time gives the same events."""
    assert events_of(*(stream[at : at + 1] for at in range(len(stream)))) == events_of(stream)


@settings(deadline=None)
@given(STREAMS, st.integers(1, 12), st.data())
def test_the_limit_holds_at_any_split(stream: bytes, limit: int, draw: st.DataObject) -> None:
    """Whether an event is too large does not depend on how the stream is cut."""
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reads = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    outcomes: list[list[bytes | Event] | None] = []
    for attempt in ([stream], reads):
        try:
            outcomes.append(events_of(*attempt, limit=limit))
        except EventTooLarge:
            outcomes.append(None)

    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b": keep-alive\n\ndata: a\n\n", [b"a"]),
        (b": note\ndata: a\nid: 7\nretry: 1\nunknown: x\n\n", [b"a"]),
        (b"data:a\n\ndata:  b\n\n", [b"a", b" b"]),
        (b"data\n\n", [b""]),
        (b"event: error\ndata: x\n\n", [Event(b"error", b"x")]),
        (b"event: error\n\ndata: x\n\n", [b"x"]),
        (b"\n\n\n\ndata: a\n\n\n\n", [b"a"]),
        (b"data: [DONE]\n", [b"[DONE]"]),
        (b"data: [DONE]", [b"[DONE]"]),
        (b"", []),
    ],
)
def test_forms_of_events(stream: bytes, expected: list[bytes | Event]) -> None:
    """Every form of line end, field, comment and event the specification allows is understood."""
    assert events_of(stream) == expected


def test_events_are_given_as_soon_as_they_end() -> None:
    """An event is given with the read that ends it, also when a lone CR is its last byte."""
    parser = SseParser()

    assert parser.feed(b"data: a\n\ndata: b") == [b"a"]
    assert parser.feed(b"\r\n\r") == [b"b"]
    assert parser.feed(b"\ndata: c\n\n") == [b"c"]


def test_an_endless_event_is_refused() -> None:
    """An event that never ends stops being collected at the limit."""
    with pytest.raises(EventTooLarge):
        events_of(*[b"data: x\n"] * 200, limit=100)


def test_a_large_event_may_come_in_small_reads() -> None:
    """An event of a megabyte in reads of 64 bytes arrives whole."""
    parser = SseParser()
    parser.feed(b"data: ")
    for _ in range(16_384):
        assert parser.feed(b"x" * 64) == []

    assert parser.feed(b"\n\n") == [b"x" * 1_048_576]
