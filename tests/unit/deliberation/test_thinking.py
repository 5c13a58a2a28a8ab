from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guard.deliberation.thinking import Split, ThinkingSplitter, split_thinking

TAGS = ["<think>", "</think>", "<thinking>", "</thinking>", "<THINK>", "</Think>"]
PIECES = [
    *TAGS,
    "<thi",
    "nk>",
    "</",
    "<",
    ">",
    "\n",
    " ",
    "\t",
    "\u00a0",
    "a",
    "b c",
    "<b>",
    "ı",
    "K",
    "İ",
    "🙂",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)


def fed(pieces: list[str], *, opened: bool = False) -> Split:
    """What a stream of these pieces is split into."""
    splitter = ThinkingSplitter(opened=opened)
    found = [splitter.feed(piece) for piece in pieces] + [splitter.close()]
    return Split("".join(split.thinking for split in found), "".join(split.answer for split in found))


@given(TEXTS, st.booleans())
@example("a\n \n<think>b", False)
@example("<think>a</think>b <think>c</think>", False)
@example("a\n<think>b</think>c<think>d", False)
@example("<thınk>a", False)
def test_every_split_of_a_text_gives_the_same(text: str, opened: bool) -> None:
    """At every single character, and into characters."""
    whole = split_thinking(text, opened=opened)

    assert fed(list(text), opened=opened) == whole
    for at in range(len(text) + 1):
        assert fed([text[:at], text[at:]], opened=opened) == whole


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=4).map("".join), max_size=6), st.booleans())
def test_pieces_of_any_size_give_the_same(pieces: list[str], opened: bool) -> None:
    """Empty ones included."""
    assert fed(pieces, opened=opened) == split_thinking("".join(pieces), opened=opened)


@given(TEXTS, st.booleans())
def test_no_character_is_lost_or_doubled(text: str, opened: bool) -> None:
    """Other than tags that opened or closed a thinking and the white space that set it off."""
    splitter = ThinkingSplitter(opened=opened)
    parts: list[str] = []
    for character in text:
        split = splitter.feed(character)
        parts += [split.thinking, split.answer]
    split = splitter.close()
    kept = "".join([*parts, split.thinking, split.answer])
    bare = re.compile(r"</?think(?:ing)?>|\s+", re.IGNORECASE | re.ASCII)

    assert bare.sub("", kept).replace("\u00a0", "") == bare.sub("", text).replace("\u00a0", "")
    assert is_subsequence(kept, text)
    if "<" not in text:
        assert kept == text


def is_subsequence(short: str, long: str) -> bool:
    """Whether the first can be had from the second by leaving characters out."""
    rest = iter(long)
    return all(character in rest for character in short)


WHOLE = {
    "an answer alone": ("Four.", Split("", "Four.")),
    "a thinking and an answer": ("<think>Sums.</think>Four.", Split("Sums.", "Four.")),
    "white space around the tags": (" \n<think>\nSums.\n</think>\n\nFour.\n", Split("\nSums.\n", "Four.\n")),
    "white space of an answer alone": ("\n Four. \n", Split("", "\n Four. \n")),
    "white space alone": (" \n ", Split("", " \n ")),
    "white space after the thinking": ("<think>a</think> \n ", Split("a", "")),
    "nothing": ("", Split("", "")),
    "no closing tag": ("<think>Sums and so on", Split("Sums and so on", "")),
    "no opening tag": ("Sums.</think>Four.", Split("", "Sums.</think>Four.")),
    "an empty thinking": ("<think></think>Four.", Split("", "Four.")),
    "two thinkings at once": ("<think>a</think>\n<think>b</think>c", Split("a</think><think>b", "c")),
    "two thinkings, other tags": (
        "<THINK>a</Thinking> <think>b</think>c",
        Split("a</Thinking><think>b", "c"),
    ),
    "upper case": ("<THINK>a</Think>b", Split("a", "b")),
    "the longer tag": ("<thinking>a</thinking>b", Split("a", "b")),
    "closed by the other tag": ("<think>a</thinking>b", Split("a", "b")),
    "an opening tag inside": ("<think>a <think>b</think>c", Split("a <think>b", "c")),
    "a second closing tag": ("<think>a</think>b</think>c", Split("a", "b</think>c")),
    "a tag in the middle of a line": ("Use <think> in HTML.", Split("", "Use <think> in HTML.")),
    "a tag after an answer on its line": ("<think>a</think>b <think>c", Split("a", "b <think>c")),
    "a second thinking in a line of its own": (
        "<think>a</think>b\n<think>c</think>\nd",
        Split("ac", "b\n\nd"),
    ),
    "an indented second thinking": ("b\n \t<think>c</think>d", Split("c", "b\n \td")),
    "a second thinking without end": ("b\n<think>c", Split("c", "b\n")),
    "a third thinking after the second": ("b\n<think>c</think> <think>d</think>e", Split("cd", "b\n e")),
    "text after the second thinking": ("b\n<think>c</think>d <think>e", Split("c", "b\nd <think>e")),
    "a tag with attributes": ("<think a='b'>c</think>d", Split("", "<think a='b'>c</think>d")),
    "another tag": ("<thinker>a</thinker>", Split("", "<thinker>a</thinker>")),
    "a tag spelled with other letters": ("<thınk>a</thınk>", Split("", "<thınk>a</thınk>")),
    "part of an opening tag at the end": ("a\n<thin", Split("", "a\n<thin")),
    "part of a closing tag at the end": ("<think>a</thin", Split("a</thin", "")),
    "part of a tag alone": ("<thin", Split("", "<thin")),
}


@pytest.mark.parametrize(("text", "expected"), WHOLE.values(), ids=WHOLE)
def test_a_completion_is_split_into_thinking_and_answer(text: str, expected: Split) -> None:
    """Tags count at the beginning of the text or of a line; anywhere else they are text."""
    assert split_thinking(text) == expected


OPENED = {
    "no tag": ("Sums", Split("Sums", "")),
    "a closing tag": ("Sums.</think>\nFour.", Split("Sums.", "Four.")),
    "an opening tag all the same": ("<think>Sums.</think>Four.", Split("<think>Sums.", "Four.")),
    "a closing tag at once": ("</think>\n\nFour.", Split("", "Four.")),
    "a second thinking": ("a</think>b\n<think>c</think>d", Split("ac", "b\nd")),
    "nothing": ("", Split("", "")),
}


@pytest.mark.parametrize(("text", "expected"), OPENED.values(), ids=OPENED)
def test_a_text_that_begins_inside_the_thinking(text: str, expected: Split) -> None:
    """Where the chat template has opened it in the prompt."""
    assert split_thinking(text, opened=True) == expected


def test_text_is_given_as_soon_as_it_is_certain() -> None:
    """Only what may still become a tag is held back."""
    splitter = ThinkingSplitter()

    assert [
        splitter.feed(piece) for piece in ("<th", "ink>a<", "b</thin", "k>", " \n", "c <think>", "\n<", "p>")
    ] == [
        Split("", ""),
        Split("a", ""),
        Split("<b", ""),
        Split("", ""),
        Split("", ""),
        Split("", "c <think>"),
        Split("", "\n"),
        Split("", "<p>"),
    ]
    assert splitter.close() == Split("", "")


def test_the_state_is_known_at_any_time() -> None:
    """Whether a thinking has begun, is open, and was closed."""
    splitter = ThinkingSplitter()
    states = []
    for piece in ("", "<think", ">", "a", "</think>", "b", "\n<think>", "c"):
        splitter.feed(piece)
        states.append((splitter.begun, splitter.inside, splitter.thought))

    assert states == [
        (False, False, False),
        (False, False, False),
        (True, True, False),
        (True, True, False),
        (True, False, True),
        (True, False, True),
        (True, True, True),
        (True, True, True),
    ]


def test_a_prompt_that_opens_the_thinking_counts_as_begun() -> None:
    """Before any text has come."""
    splitter = ThinkingSplitter(opened=True)

    assert (splitter.begun, splitter.inside, splitter.thought) == (True, True, False)


@pytest.mark.parametrize(
    "text", ["x<think>", "<think></think>", "x <think>\n", "<think>\n</think>\n", "<", " \n"]
)
def test_a_long_text_of_tags_is_split(text: str) -> None:
    """Histories of a megabyte come from clients; the work grows with the length alone."""
    split = split_thinking(text * 100_000)

    assert len(split.thinking) + len(split.answer) <= len(text) * 100_000
