from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.pipeline.reading import JOINED, CallReader, Piece
from guard.pipeline.usage import Usage, total
from guard.upstream.text_runs import Chunk, TextRun, apart


def _chunk(finish: str | None = None, usage: dict[str, Any] | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": usage}


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_both_names_of_the_reasoning_field_are_thinking(name: str) -> None:
    """Engines before and after the field was renamed are read alike."""
    reader = CallReader(thinking_opened=False)

    delta: dict[str, Any] = {name: "hm"}

    assert [piece.thinking for piece in reader.read(_chunk(**delta))] == ["hm"]


def test_tags_inside_content_are_thinking_even_beside_a_reasoning_field() -> None:
    """A reasoning parser that lets tags through does not leak the thinking; it is read as a second one.

    Field lesson 28: text before the opening tag went past the engine's parser.
    """
    reader = CallReader(thinking_opened=False)
    contents = ["<think>b", "b</think>", "c"]

    pieces = reader.read_batch([_chunk(reasoning="a"), *(_chunk(content=c) for c in contents)])

    assert "".join(piece.thinking for piece in pieces) == "a</think><think>bb"
    assert "".join(piece.answer for piece in pieces) == "c"


def test_a_prompt_that_opened_the_thinking_needs_no_opening_tag() -> None:
    """Templates that end in an open thinking are read from the first character as thinking."""
    reader = CallReader(thinking_opened=True)

    assert reader.read(_chunk(content="hm</think>\n\nYes")) == [Piece("hm", "Yes", tokens=1)]


def test_the_order_within_a_chunk_is_kept() -> None:
    """A thinking that follows an answer does not come before it, whatever arrives at once."""
    reader = CallReader(thinking_opened=False)
    content, call = "a\n<think>b</think>c\n<think>d", [{"index": 0}]

    pieces = reader.read(_chunk(reasoning="t", content=content, tool_calls=call))

    assert pieces == [
        Piece("t", "a\n", tokens=1),
        Piece("</think><think>b", "c\n"),
        Piece("d", ""),
        Piece(tools=call),
    ]


def test_running_usage_counts_the_tokens_of_a_chunk() -> None:
    """Where the engine reports usage in every chunk, a chunk's tokens are the difference."""
    reader = CallReader(thinking_opened=False)
    reader.read(_chunk(content="a", usage={"completion_tokens": 3}))

    assert [p.tokens for p in reader.read(_chunk(content="b", usage={"completion_tokens": 7}))] == [4]


def test_the_end_of_a_thinking_is_not_charged_to_the_answer() -> None:
    """A chunk that begins the answer may count the thinking before it and the tag between them."""
    reader = CallReader(thinking_opened=False)
    together = _chunk(reasoning="Hm.", content="Yes", usage={"completion_tokens": 30})
    after = _chunk(content=", it is.", usage={"completion_tokens": 34})

    pieces = [piece for chunk in (together, after) for piece in reader.read(chunk)]
    assert [piece.tokens for piece in pieces if piece.answer] == [1, 4]


def test_usage_is_read_with_its_details() -> None:
    """Cached and reasoning tokens are kept."""
    reader = CallReader(thinking_opened=False)
    reader.read(
        {
            "choices": [],
            "usage": {
                "prompt_tokens": 9,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 8},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
        }
    )

    assert reader.final_usage() == Usage(prompt=9, completion=4, reasoning=3, cached=8)


def test_without_reported_usage_chunks_with_text_are_counted() -> None:
    """An engine that reports no usage is counted by its chunks."""
    reader = CallReader(thinking_opened=False)
    for text in ("a", "b", ""):
        reader.read(_chunk(content=text))

    assert reader.final_usage() == Usage(completion=2)


def test_the_finish_reason_is_kept() -> None:
    """The last finish reason is the call's."""
    reader = CallReader(thinking_opened=False)
    reader.read(_chunk("length"))

    assert reader.finish_reason == "length"


def test_choices_share_the_prompt_and_add_their_completions() -> None:
    """The usage of several choices counts the prompt once."""
    assert total([Usage(9, 4, 1, 2), Usage(9, 5, 2, 8)]) == Usage(9, 9, 3, 8)


_text = st.sampled_from(["", "a", "b\n", "<think>", "</think>"])
_chunks = st.builds(
    _chunk,
    st.sampled_from([None, None, None, "stop"]),
    st.sampled_from([None, None, None, {"completion_tokens": 9}]),
    reasoning=_text,
    content=_text,
    tool_calls=st.sampled_from([None, None, [{"index": 0}]]),
)


def _run(field: str, texts: list[str]) -> TextRun:
    delta: dict[str, Any] = {field: "x"}
    return TextRun(_chunk(**delta), field, texts)


_runs = st.builds(_run, st.sampled_from(["reasoning", "content"]), st.lists(_text, min_size=1, max_size=40))
_batches = st.lists(_chunks | _runs, max_size=10)


def _told(batch: list[Chunk | TextRun], *, joining: bool) -> tuple[str, int, int, str]:
    """What is read in order: texts with their kind, calls, tokens, and how it ended."""
    reader = CallReader(thinking_opened=False, joining=joining)
    pieces = [*reader.read_batch(batch), reader.close()]
    told = [
        letter for p in pieces for letter in (*(f"T{c}" for c in p.thinking), *(f"A{c}" for c in p.answer))
    ]
    calls = sum(piece.tools is not None for piece in pieces)
    return str(told), calls, reader.final_usage().completion, reader.finish_reason


@given(_batches)
def test_runs_of_text_say_what_their_chunks_say_one_by_one(batch: list[Chunk | TextRun]) -> None:
    """Reading a run loses, doubles and reorders no text, call, token or finish reason."""
    one_by_one = _told(list(apart(batch)), joining=False)

    assert _told(batch, joining=True) == _told(batch, joining=False) == one_by_one


@given(_batches)
def test_no_joined_piece_grows_over_its_limit(batch: list[Chunk | TextRun]) -> None:
    """However many chunks come together, a piece stands for a bounded number of them."""
    batch = [item for item in batch if isinstance(item, TextRun) or not item["usage"]]
    reader = CallReader(thinking_opened=False, joining=True)

    assert all(piece.tokens <= JOINED for piece in reader.read_batch(batch))


def test_a_run_is_joined_unless_tokens_are_counted() -> None:
    """A run becomes one piece, or one piece a chunk where a limit needs exact counts."""
    batch: list[Chunk | TextRun] = [_chunk(reasoning="t"), _run("content", ["a", "", "b"]), _chunk("stop")]

    together = CallReader(thinking_opened=False, joining=True).read_batch(batch)
    by_chunk = CallReader(thinking_opened=False).read_batch(batch)

    assert together == [Piece("t", tokens=1), Piece("", "ab", tokens=2)]
    assert by_chunk == [Piece("t", tokens=1), Piece("", "a", tokens=1), Piece("", "b", tokens=1)]
