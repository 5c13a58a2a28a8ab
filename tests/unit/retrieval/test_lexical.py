from __future__ import annotations

import bm25s  # type: ignore[import-untyped]
import numpy as np

from guard.retrieval.dense import Vectors
from guard.retrieval.lexical import Counted, LexicalIndex

SECTIONS = ([1, 2, 2, 3, 9, 9, 9], [1, 4, 4, 4, 5], [1, 6, 7], [1, 2, 8, 8, 8, 8])


def _index() -> LexicalIndex:
    return LexicalIndex([Counted.of(np.array(tokens)) for tokens in SECTIONS], vocabulary=12)


def _scores(*texts: list[int]) -> Vectors:
    return _index().scores([np.array(tokens, np.intp) for tokens in texts])


def test_scores_are_those_of_bm25s() -> None:
    """Ours are the library's own, for uncommon tokens."""
    theirs = bm25s.BM25(method="lucene")
    theirs.index((list(map(list, SECTIONS)), {str(n): n for n in range(12)}), show_progress=False)
    for query in ([4], [3, 6], [2, 9], [8, 5, 7]):
        expected = theirs.get_scores_from_ids(query) / len(query) ** 0.5
        np.testing.assert_allclose(_scores(query)[0], expected, rtol=1e-5)


def test_a_word_of_most_sections_says_nothing() -> None:
    """Token 1 stands in every section and so in no score."""
    np.testing.assert_array_equal(_scores([1]), 0.0)


def test_unknown_and_no_words_score_nothing() -> None:
    """A query without a word of the policy has zero everywhere."""
    np.testing.assert_array_equal(_scores([10, 11]), 0.0)
    np.testing.assert_array_equal(_scores([]), 0.0)


def test_repeated_words_count_once() -> None:
    """Saying a word twice does not make the text more about it."""
    once, twice = _scores([4], [4, 4, 4])
    np.testing.assert_array_equal(once, twice)


def test_texts_scored_together_have_their_own_rows() -> None:
    """One without a word among them too."""
    together = _scores([8, 5, 7], [], [2, 9])
    np.testing.assert_array_equal(
        together, np.concatenate([_scores([8, 5, 7]), _scores([]), _scores([2, 9])])
    )
