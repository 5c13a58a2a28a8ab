import pytest

from training.duplicates import Reference, level

KNOWN = [
    ("first", "How do I tune the strings of an old upright piano at home?"),
    ("second", "Write a short poem about rain on a tin roof in November."),
]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("how do i tune the strings of an OLD upright piano, at home", ("first", "exact")),
        ("How do I tune the strings of an old upright piano at my home?", ("first", "near")),
        ("Write a short poem about rain on a tin roof in September.", ("second", "near")),
        ("How do I tune a bicycle wheel?", None),
        ("Write a long letter about snow.", None),
    ],
)
def test_repeated_texts_are_found(text: str, found: tuple[str, str] | None) -> None:
    """Same words, nearly the same words, and other words are told apart."""
    assert Reference.of(KNOWN, 0.6).match(text) == found


def test_levelling_ignores_case_punctuation_and_layout() -> None:
    """What does not change the meaning does not make a new prompt."""
    assert level("  Hello,\n\tWORLD! ") == "hello world"


def test_texts_are_indexed_once() -> None:
    """The same text in two sets counts once."""
    assert len(Reference.of([("a", "Same text here."), ("b", "same text, here")], 0.6)) == 1
