from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.errors import UpstreamError
from guard.upstream.chunks import ChunkReader, completion_chunk
from guard.upstream.text_runs import Chunk, apart
from tests.scripted import DONE, chat_events, sse_event


def read(*reads: bytes) -> list[Chunk]:
    """All chunks of a stream that ends in order."""
    reader = ChunkReader()
    chunks = [chunk for data in reads for chunk in apart(reader.feed(data))]
    return chunks + list(apart(reader.finish()))


def text_of(chunks: list[Chunk]) -> str:
    """The answer's visible text."""
    return "".join(c["delta"].get("content", "") for chunk in chunks for c in chunk["choices"])


def test_a_whole_stream_gives_all_its_chunks() -> None:
    """Role, thinking, answer, finish and usage come through as the engine sent them."""
    events = chat_events("Hello there.", "Think first.")

    chunks = read(b"".join(events))

    assert chunks == [orjson.loads(event[6:]) for event in events[:-1]]
    assert chunks[-1]["usage"]["total_tokens"] == 11


@settings(deadline=None)
@given(st.text(min_size=1), st.integers(1, 50))
def test_text_survives_any_split(text: str, size: int) -> None:
    """The answer's text is the same however the bytes are cut, in the middle of characters too."""
    body = b"".join(chat_events([text]))

    assert text_of(read(*(body[at : at + size] for at in range(0, len(body), size)))) == text


def test_no_done_line_is_needed_after_a_finish_reason() -> None:
    """An engine that just ends its body after a finish reason has given a whole answer."""
    assert text_of(read(b"".join(chat_events("Hello.", done=False)))) == "Hello."


def test_a_last_event_without_its_empty_line_counts() -> None:
    """The finish reason of an event that the end of the body cuts short by a line end is seen."""
    body = b"".join(chat_events("Hello.", usage=False, done=False))

    assert text_of(read(body[:-1])) == "Hello."


@pytest.mark.parametrize("done", [True, False])
def test_an_answer_without_a_finish_reason_is_broken(done: bool) -> None:
    """A stream that ends before any finish reason is an error, even after [DONE]."""
    with pytest.raises(UpstreamError) as caught:
        read(b"".join(chat_events("Hello.", finish=None, done=done)))

    assert caught.value.code == "engine_stream_broken"


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_an_answer_that_the_engine_gave_up_is_broken(reason: str) -> None:
    """It ends, but it is not whole."""
    with pytest.raises(UpstreamError, match="gave its answer up"):
        read(sse_event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}) + DONE)


def test_one_unfinished_choice_breaks_the_stream() -> None:
    """Of two choices both must finish."""
    first = chat_events("One.", done=False)
    second = chat_events("Two.", index=1, finish=None)

    with pytest.raises(UpstreamError, match="before it had finished"):
        read(b"".join(first + second))


@pytest.mark.parametrize("body", [b"", DONE, b": ping\n\n", b"\n\n" + DONE])
def test_an_empty_stream_is_broken(body: bytes) -> None:
    """A stream without any chunk is never an empty answer."""
    with pytest.raises(UpstreamError) as caught:
        read(body)

    assert caught.value.code == "engine_stream_broken"


def test_nothing_after_done_is_read() -> None:
    """What an engine sends after [DONE] is not part of the answer."""
    assert text_of(read(b"".join(chat_events("Hello.")) + b"data: garbage\n\n")) == "Hello."


@pytest.mark.parametrize(
    "event",
    [
        sse_event({"error": {"message": "CUDA out of memory", "code": 500}}),
        sse_event({"error": "CUDA out of memory"}),
        sse_event({"object": "error", "message": "CUDA out of memory"}),
        b"event: error\ndata: CUDA out of memory\n\n",
    ],
)
def test_an_error_in_the_stream_is_raised_after_what_came_before(event: bytes) -> None:
    """Chunks before an error are given, the error follows; its words are a note, not the message."""
    chunks = apart(ChunkReader().feed(chat_events("Hello.")[0] + event + DONE))

    assert next(chunks)["choices"][0]["delta"]["role"] == "assistant"
    with pytest.raises(UpstreamError) as caught:
        next(chunks)
    assert caught.value.code == "engine_failed"
    assert "CUDA" not in caught.value.message
    assert any("CUDA out of memory" in note for note in caught.value.__notes__)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"object": "error", "message": "CUDA out of memory"}, "engine_failed"),
        ({"error": "CUDA out of memory"}, "engine_failed"),
        (
            {"choices": [{"index": 0.0, "delta": {"content": "x"}, "finish_reason": None}]},
            "engine_bad_answer",
        ),
        ({"usage": 3}, "engine_bad_answer"),
    ],
)
def test_text_that_goes_on_is_checked_like_its_beginning(change: dict[str, object], code: str) -> None:
    """Of chunks that begin and end alike none gets through that would be refused by itself."""
    text = {"object": "chunk", "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]}
    with pytest.raises(UpstreamError) as caught:
        read(sse_event(text) + sse_event(text) + sse_event({**text, **change}) + DONE)

    assert caught.value.code == code


def test_an_error_field_of_null_is_no_error() -> None:
    """Some engines write ``"error": null`` into every chunk."""
    chunk = {"error": None, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}

    assert len(read(sse_event(chunk))) == 1


@pytest.mark.parametrize(
    "event",
    [
        b"data: {oops\n\n",
        b"data: 7\n\n",
        b"data: [1]\n\n",
        b'data: {"choices": 3}\n\n',
        b'data: {"choices": [3]}\n\n',
        b'data: {"choices": [{"index": []}]}\n\n',
        b'data: {"type": "ping"}\n\n',
        b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n',
        b"data: " + b"x" * (9 * 1024 * 1024) + b"\n\n",
    ],
)
def test_garbage_is_refused(event: bytes) -> None:
    """What is no chunk of a chat completion ends the stream as an error."""
    with pytest.raises(UpstreamError) as caught:
        read(event)

    assert caught.value.code == "engine_bad_answer"


def test_a_missing_delta_becomes_an_empty_one() -> None:
    """Readers may rely on every choice having a delta object."""
    [chunk] = read(sse_event({"choices": [{"delta": None, "finish_reason": "stop"}]}))

    assert chunk["choices"][0]["delta"] == {}


def test_events_with_other_names_are_skipped() -> None:
    """A named event that is no error is an extension, not a chunk."""
    assert len(read(b"event: ping\ndata: {}\n\n", *chat_events("Hello.", usage=False))) == 3


def completion(**choice: Any) -> bytes:
    """The body of an answer that is no stream, with one choice."""
    whole = {"index": 0, "finish_reason": "stop", **choice}
    head = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m"}
    return orjson.dumps({**head, "choices": [whole], "usage": {"total_tokens": 3}})


def test_a_whole_completion_becomes_one_chunk() -> None:
    """The message becomes the delta; identity, finish reason and usage stay."""
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": "Hello.", "tool_calls": [call]}

    chunk = completion_chunk(completion(message=message))

    assert chunk["object"] == "chat.completion.chunk"
    assert chunk["choices"] == [
        {
            "index": 0,
            "finish_reason": "stop",
            "delta": {**message, "tool_calls": [{"index": 0, **call}]},
        }
    ]
    assert chunk["usage"] == {"total_tokens": 3}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error": {"message": "boom"}}', "engine_failed"),
        (b'{"object": "list", "data": []}', "engine_bad_answer"),
        (b'{"object": "chat.completion"}', "engine_bad_answer"),
        (b"null", "engine_bad_answer"),
        (b"<html>", "engine_bad_answer"),
    ],
)
def test_other_bodies_are_no_completion(body: bytes, code: str) -> None:
    """A body that is no chat completion is an error of its kind."""
    with pytest.raises(UpstreamError) as caught:
        completion_chunk(body)

    assert caught.value.code == code
