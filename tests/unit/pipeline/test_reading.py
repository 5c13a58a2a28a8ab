from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.pipeline.reading import JOINED, CallReader, Piece, join_pieces
from guard.pipeline.usage import Usage, total


def _chunk(finish: str | None = None, usage: dict[str, Any] | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": usage}


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_both_names_of_the_reasoning_field_are_thinking(name: str) -> None:
    """Engines before and after the field was renamed are read alike."""
    reader = CallReader(thinking_opened=False)

    delta: dict[str, Any] = {name: "hm"}

    assert reader.read(_chunk(**delta)).thinking == "hm"


def test_tags_inside_content_are_thinking_even_beside_a_reasoning_field() -> None:
    """A reasoning parser that lets tags through does not leak the thinking; it is read as a second one."""
    reader = CallReader(thinking_opened=False)
    contents = ["<think>b", "b</think>", "c"]

    pieces = [reader.read(_chunk(reasoning="a")), *(reader.read(_chunk(content=c)) for c in contents)]

    assert "".join(piece.thinking for piece in pieces) == "a</think><think>bb"
    assert "".join(piece.answer for piece in pieces) == "c"


def test_a_prompt_that_opened_the_thinking_needs_no_opening_tag() -> None:
    """Templates that end in an open thinking are read from the first character as thinking."""
    reader = CallReader(thinking_opened=True)

    assert reader.read(_chunk(content="hm</think>\n\nYes")) == Piece("hm", "Yes", tokens=1)


def test_running_usage_counts_the_tokens_of_a_chunk() -> None:
    """Where the engine reports usage in every chunk, a chunk's tokens are the difference."""
    reader = CallReader(thinking_opened=False)
    reader.read(_chunk(content="a", usage={"completion_tokens": 3}))

    assert reader.read(_chunk(content="b", usage={"completion_tokens": 7})).tokens == 4


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


_pieces = st.builds(
    Piece,
    st.sampled_from(["", "t"]),
    st.sampled_from(["", "a"]),
    st.sampled_from([None, [{"index": 0}]]),
    st.integers(0, 3),
)


def _told(pieces: list[Piece]) -> tuple[str, int, int]:
    """What pieces say in order: texts with their kind, and how many calls and tokens there are."""
    text = "".join(p.thinking + p.answer + ("c" if p.tools else "") for p in pieces)
    return text, sum(p.tokens for p in pieces), sum(p.tools is not None for p in pieces)


@given(st.lists(_pieces, max_size=40))
def test_joined_pieces_say_the_same_in_the_same_order(pieces: list[Piece]) -> None:
    """Joining loses, doubles and reorders nothing, and no piece grows over its limit."""
    joined = join_pieces(pieces)

    assert _told(joined) == _told(pieces)
    assert len(joined) <= len(pieces)
    assert all(len(piece.thinking) + len(piece.answer) <= 2 * JOINED for piece in joined)


def test_chunks_that_come_together_are_joined_unless_tokens_are_counted() -> None:
    """A batch becomes one piece, or one piece a chunk where a limit needs exact counts."""
    batch = [_chunk(reasoning="t"), _chunk(content="a"), _chunk(content="b"), _chunk("stop")]

    together = CallReader(thinking_opened=False, joining=True).read_batch(batch)
    apart = CallReader(thinking_opened=False).read_batch(batch)

    assert together == [Piece("t", "ab", tokens=3)]
    assert apart == [Piece("t", tokens=1), Piece("", "a", tokens=1), Piece("", "b", tokens=1)]
