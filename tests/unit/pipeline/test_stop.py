from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guard.pipeline.stop import StopCutter

_letters = st.text(alphabet="ab\n", max_size=30)


def _cut(pieces: list[str], sequences: tuple[str, ...]) -> tuple[str, bool]:
    cutter = StopCutter(sequences)
    out = "".join(cutter.feed(piece) for piece in pieces)
    return (out if cutter.hit else out + cutter.close()), cutter.hit


def test_without_sequences_everything_passes() -> None:
    """An answer without stop sequences is released as it comes."""
    assert _cut(["any", "thing"], ()) == ("anything", False)


def test_the_sequence_itself_is_not_released() -> None:
    """The answer ends before the stop sequence, as OpenAI's does."""
    assert _cut(["one END two"], ("END",)) == ("one ", True)


def test_the_earliest_of_several_sequences_cuts() -> None:
    """Where two stop sequences occur, the one that is complete first decides."""
    assert _cut(["a.b;c"], (";", ".")) == ("a", True)


def test_a_beginning_that_does_not_complete_is_released_at_the_end() -> None:
    """Text held back as a possible stop sequence is not lost."""
    assert _cut(["the EN"], ("END",)) == ("the EN", False)


@given(
    _letters, st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), min_size=1, max_size=3), st.data()
)
def test_splits_do_not_matter(text: str, sequences: list[str], data: st.DataObject) -> None:
    """However an answer is split into pieces, it is cut at the same character."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    assert _cut(pieces, tuple(sequences)) == _cut([text], tuple(sequences))


@given(_letters, st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), min_size=1, max_size=3))
def test_what_is_released_holds_no_stop_sequence(text: str, sequences: list[str]) -> None:
    """No stop sequence is ever released whole."""
    released, _ = _cut([text], tuple(sequences))

    assert not any(sequence in released for sequence in sequences)


def test_the_sequence_that_cut_is_known() -> None:
    """Some APIs tell the client which of its stop sequences ended the answer."""
    cutter = StopCutter((";", "."))
    cutter.feed("a.b;c")

    assert cutter.found == "."


def test_an_empty_sequence_cuts_nothing() -> None:
    """An empty stop sequence is at every place of a text, and meant nowhere."""
    assert _cut(["some", " text"], ("",)) == ("some text", False)
