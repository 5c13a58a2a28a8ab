import pytest

from training.duplicates import Reference, jaccard, level, shingles

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


def test_near_duplicates_are_found_wherever_the_change_is() -> None:
    """A word changed at any place of any text: none whose similarity reaches the threshold is missed."""
    texts = [
        f"What {a} would you {b} for the {c} of a {d} house?"
        for a in ("paint", "roof", "lamp")
        for b in ("buy", "recommend", "choose")
        for c in ("kitchen", "cellar", "garden")
        for d in ("small", "wooden", "modern")
    ]
    missed = near = 0
    for text in texts:
        reference = Reference.of([("set", text)], 0.6)
        words = text.split()
        for place in range(len(words)):
            changed = " ".join([*words[:place], "purple", *words[place + 1 :]])
            if jaccard(shingles(text), shingles(changed)) >= 0.6:
                near += 1
                missed += reference.match(changed) is None
    assert near > 500
    assert missed == 0
