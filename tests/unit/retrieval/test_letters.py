"""Letter statistics of many texts in one go."""

from __future__ import annotations

import codecs

from hypothesis import given
from hypothesis import strategies as st

from guard.retrieval.letters import (
    REVERSED,
    SUBSTITUTED,
    THRESHOLD,
    best_stretch,
    classes,
    gains,
    transformed,
)

PROSE = "tell me how the old bakers of this town kept their bread from going stale"
PROSES = st.text(alphabet=st.sampled_from("eeetaoinshr dlu\0\n?é"), max_size=60) | st.integers(0, 60).map(
    lambda at: PROSE[at:]
)
TEXTS = PROSES | PROSES.map(lambda text: text[::-1]) | PROSES.map(lambda text: codecs.encode(text, "rot13"))


def reads_better(text: str) -> bool:
    """The definition, a table at a time."""
    letters = classes(text)
    tables = (REVERSED, *SUBSTITUTED.values())
    return len(letters) >= 6 and any(best_stretch(gains(letters, table)) > THRESHOLD for table in tables)


@given(st.lists(TEXTS, min_size=1, max_size=8))
def test_each_of_many_texts_is_judged_as_if_it_were_alone(texts: list[str]) -> None:
    """Bounds that are taken over all texts at once leave out no text and add none."""
    assert transformed(texts) == [reads_better(text) for text in texts]


def test_backwards_and_shifted_prose_is_told_from_prose() -> None:
    """The three kinds in one list."""
    assert transformed([PROSE, PROSE[::-1], codecs.encode(PROSE, "rot13")]) == [False, True, True]
