"""Which tokens are told of which released text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.pipeline.probabilities import TokenAligner


def entry(token: str, **more: Any) -> dict[str, Any]:
    """What vLLM says of a token."""
    told = {"token": token, "logprob": -0.5, "bytes": list(token.encode()), "top_logprobs": []}
    return {**told, **more}


def tokens(told: list[dict[str, Any]] | None) -> list[str] | None:
    """The texts of told tokens."""
    return None if told is None else [token["token"] for token in told]


def test_tokens_come_with_their_text() -> None:
    """One piece of text after the other, each with its own."""
    aligner = TokenAligner()
    aligner.add([entry("With"), entry(" a")], "With a")
    first = aligner.take("With a")
    aligner.add([entry(" whetstone")], " whetstone")

    assert (tokens(first), tokens(aligner.take(" whetstone"))) == (["With", " a"], [" whetstone"])


def test_the_end_of_the_thinking_is_passed_over() -> None:
    """Tags and white space before the answer are no part of it, nor is the same word before them."""
    aligner = TokenAligner()
    aligner.add([entry("Yes"), entry("</think>"), entry("\n\n"), entry("Yes")], "Yes")

    assert tokens(aligner.take("Yes")) == ["Yes"]


def test_a_character_of_several_tokens_comes_with_the_last() -> None:
    """VLLM gives an unfinished character's token no text; the one that ends it has all of it."""
    aligner = TokenAligner()
    aligner.add([entry(""), entry("🗡")], "🗡")

    assert tokens(aligner.take("🗡")) == ["", "🗡"]


def test_a_possible_tag_is_waited_for() -> None:
    """The first piece may end before a character that could have begun a tag."""
    aligner = TokenAligner()
    aligner.add([entry("</think>"), entry("if a"), entry("<")], "if a")
    first = aligner.take("if a")
    aligner.add([entry("b")], "<b")

    assert (tokens(first), tokens(aligner.take("<b"))) == (["if a"], ["<", "b"])


def test_a_token_is_told_with_the_text_that_ends_it() -> None:
    """Text may be held back inside a token; nothing is told of what was not released."""
    aligner = TokenAligner()
    aligner.add([entry("whetstone")], "whetstone")

    assert [tokens(aligner.take(text)) for text in ("whet", "stone")] == [[], ["whetstone"]]


@pytest.mark.parametrize(
    "entries",
    [
        [entry("Without")],
        [entry("With"), entry("out")],
        [],
        [entry("With a", bytes=[300])],
        [entry("With a", logprob="high")],
        [entry("With a", top_logprobs=[{"token": 1}])],
        ["With a"],
    ],
)
def test_what_does_not_join_to_the_text_is_not_told(entries: list[Any]) -> None:
    """Once lost, nothing later is told either: a list with a gap would look whole."""
    aligner = TokenAligner()
    aligner.add(entries, "With a")

    assert aligner.take("With a") is None
    aligner.add([entry(" whetstone")], " whetstone")
    assert aligner.take(" whetstone") is None


def test_only_what_the_api_has_is_told() -> None:
    """An engine's other fields do not get through."""
    other = {"token": "No", "logprob": -2, "bytes": None, "prompt": "secret"}
    aligner = TokenAligner()
    aligner.add([entry("Yes", top_logprobs=[other], prompt="secret")], "Yes")

    assert aligner.take("Yes") == [
        {
            "token": "Yes",
            "logprob": -0.5,
            "bytes": [89, 101, 115],
            "top_logprobs": [{"token": "No", "logprob": -2, "bytes": None}],
        }
    ]


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4), min_size=1, max_size=8
    ),
    st.data(),
)
def test_told_tokens_join_to_the_text_wherever_it_is_cut(words: list[str], data: st.DataObject) -> None:
    """However the text is released, its whole tokens are told once each and in order."""
    text = "".join(words)
    ends = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)) | {len(text)})
    aligner = TokenAligner()
    aligner.add([entry(word) for word in words], text)
    told: list[dict[str, Any]] = []
    for start, end in zip([0, *ends], ends, strict=False):
        told += aligner.take(text[start:end]) or []

    assert tokens(told) == words
