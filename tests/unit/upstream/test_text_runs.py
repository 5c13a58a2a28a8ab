from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.errors import UpstreamError
from guard.upstream.chunks import ChunkReader
from guard.upstream.text_runs import TextForm, TextRun, apart
from tests.scripted import chat_events


def _event(text: str, field: str = "content", *, ascii_only: bool = False, **more: Any) -> bytes:
    """The data of one event with a text."""
    choice = {"index": 0, "delta": {field: text}, "logprobs": None, "finish_reason": None}
    return json.dumps({"id": "c", "choices": [choice], **more}, ensure_ascii=ascii_only).encode()


def _form(event: bytes) -> TextForm | None:
    return TextForm.of(event, orjson.loads(event))


def _body(events: Sequence[bytes]) -> bytes:
    return b"".join(b"data: " + event + b"\n\n" for event in events)


def _read(events: Sequence[bytes]) -> list[dict[str, Any]]:
    """The chunks of events that arrive together."""
    return list(apart(ChunkReader().feed(_body(events))))


def test_the_words_of_an_answer_come_as_one_run() -> None:
    """All that arrives together and only goes on with a text is one run for each kind of text."""
    batch = list(ChunkReader().feed(b"".join(chat_events("One two three four.", "Think a little first."))))

    runs = [item for item in batch if isinstance(item, TextRun)]
    assert [(run.field, run.texts) for run in runs] == [
        ("reasoning", ["Think", " a", " little", " first."]),
        ("content", ["One", " two", " three", " four."]),
    ]


@pytest.mark.parametrize("ascii_only", [False, True])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_a_run_gives_the_chunks_that_the_engine_sent(ascii_only: bool, texts: list[str]) -> None:
    """Whatever the texts and however they are escaped, each chunk is what its event decodes to."""
    events = [_event(text, ascii_only=ascii_only) for text in texts]

    assert _read(events) == [orjson.loads(event) for event in events]


_TEXTS = st.text('ab\\"{}', max_size=3)
_EVENTS = st.one_of(
    _TEXTS.map(_event),
    _TEXTS.map(lambda text: _event(text, "reasoning")),
    _TEXTS.map(lambda text: _event(text, usage={"total_tokens": 1})),
    st.just(_event("").replace(b'"finish_reason": null', b'"finish_reason": "stop"')),
    st.just(b""),
)


@given(st.lists(st.tuples(_EVENTS, st.booleans()), min_size=1))
def test_chunks_of_any_forms_come_in_their_order(events: list[tuple[bytes, bool]]) -> None:
    """Runs end where another form, a named event or an empty one comes, and nothing is lost or moved."""
    body = b"".join((b"event: ping\n" if named else b"") + _body([event]) for event, named in events)

    read = list(apart(ChunkReader().feed(body)))

    assert read == [orjson.loads(event) for event, named in events if event and not named]


@given(st.lists(st.text('ab\\"nu0,:{}[]', max_size=8), min_size=1))
def test_an_event_that_is_not_json_is_refused_in_the_middle_of_a_run_too(texts: list[str]) -> None:
    """Unescaped text between the right bytes is taken where it is valid JSON by itself, and nowhere else."""
    before, after = _event("@").split(b"@")
    events = [_event("@"), *(before + text.encode() + after for text in texts)]
    good = []
    for event in events:
        try:
            good.append(orjson.loads(event))
        except orjson.JSONDecodeError:
            break

    read = []
    with nullcontext() if len(good) == len(events) else pytest.raises(UpstreamError):
        for chunk in apart(ChunkReader().feed(_body(events))):
            read.append(chunk)

    assert read == good


def test_an_event_that_is_shorter_than_its_form_is_not_of_the_form() -> None:
    """Beginning and end may not overlap: what they would share is not there twice."""
    before, after = _event("@").split(b"@")

    with pytest.raises(UpstreamError):
        _read([_event("@"), before + after[1:]])


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": [], "usage": {"total_tokens": 1}},
        {"choices": [{"delta": {"content": "x"}}], "usage": {"completion_tokens": 1}},
        {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]},
        {"choices": [{"delta": {"content": "x"}, "logprobs": {"content": [{"token": "x"}]}}]},
        {"choices": [{"delta": {"content": "x", "reasoning": "x"}}]},
        {"choices": [{"delta": {"content": "x", "tool_calls": [{"index": 0}]}}]},
        {"choices": [{"delta": {"content": "x"}}, {"delta": {"content": "x"}, "index": 1}]},
        {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
    ],
)
def test_a_chunk_that_brings_more_than_one_text_has_no_form(chunk: dict[str, Any]) -> None:
    """Usage, finish reason, probabilities, calls and other texts may differ from chunk to chunk."""
    assert _form(orjson.dumps(chunk)) is None


@pytest.mark.parametrize(
    "event",
    [
        b'{"content":"x","choices":[{"delta":{"content":"x"}}]}',
        b'{"x":{"content":["b", "c"]},"choices":[{"delta":{"content":", "}}]}',
        b'{"choices":[{"delta":{"content":"\\u0078"}}]}',
        b'{"choices":[{"delta":{"content":"x","content":"x"}}]}',
    ],
)
def test_a_place_that_is_not_certain_is_no_form(event: bytes) -> None:
    """Where a change would not change the text, or more than the text, chunks stay apart."""
    assert _form(event) is None
    assert _read([event, event]) == [orjson.loads(event)] * 2


def test_fields_beside_the_text_that_say_nothing_do_not_matter() -> None:
    """Some engines repeat the role and send nulls for what a chunk does not bring."""
    delta = {"role": "assistant", "content": "x", "reasoning": None, "tool_calls": None}
    event = orjson.dumps({"choices": [{"index": 0, "delta": delta}], "usage": None})

    assert _form(event) is not None
