"""Word overlap between a text and the sections: BM25 over word pieces.

The index is bm25s's. Its construction is our own, because bm25s counts document frequencies in Python loops
and takes longer over a thousand sections than a policy reload may last; and so is the sum over the words of a
query, because bm25s takes one query at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import bm25s  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from guard.retrieval.dense import Tokens, Vectors

_COMMON = 0.5
"""Tokens in more than this share of the sections say nothing about which one is meant."""


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """The words of one section."""

    tokens: Tokens
    """Each token id once."""
    counts: NDArray[np.int64]
    """How often each stands there."""

    @classmethod
    def of(cls, tokens: Tokens) -> Counted:
        """Count the tokens of a text."""
        return cls(*np.unique(tokens, return_counts=True))


class _Index(bm25s.BM25):  # type: ignore[misc]  # bm25s is untyped
    """A bm25s index built from counts, for all sections at once."""

    def build_index_from_ids(
        self, unique_token_ids: list[int], corpus_token_ids: Sequence[Counted], **_: Any
    ) -> dict[str, Any]:
        """The sparse score matrix, a column for each token of the vocabulary (bm25s's own hook)."""
        lengths = np.array([counted.counts.sum() for counted in corpus_token_ids], np.float32)
        sizes = [len(counted.tokens) for counted in corpus_token_ids]
        sections = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        tokens = np.concatenate([counted.tokens for counted in corpus_token_ids])
        counts = np.concatenate([counted.counts for counted in corpus_token_ids]).astype(np.float32)
        size = len(unique_token_ids)
        frequency = np.bincount(tokens, minlength=size)
        weight = np.log1p((len(sizes) - frequency + 0.5) / (frequency + 0.5)).astype(np.float32)
        if len(sizes) > 2:
            weight[frequency > _COMMON * len(sizes)] = 0.0
        relative = self.k1 * (1 - self.b + self.b * lengths / max(float(lengths.mean()), 1.0))
        scores = weight[tokens] * counts / (counts + relative[sections])
        keep = np.flatnonzero(scores)
        keep = keep[np.argsort(tokens[keep], kind="stable")]
        starts = np.zeros(size + 1, np.int64)
        np.cumsum(np.bincount(tokens[keep], minlength=size), out=starts[1:])
        return {
            "data": scores[keep],
            "indices": sections[keep],
            "indptr": starts,
            "num_docs": len(sizes),
        }


class LexicalIndex:
    """BM25 scores of all sections for a text's tokens."""

    def __init__(self, sections: Sequence[Counted], vocabulary: int) -> None:
        """Build the index.

        Args:
            sections: The words of each section, in order; at least one section.
            vocabulary: Number of token ids.
        """
        index = _Index(method="lucene").build_index_from_ids(list(range(vocabulary)), sections)
        self._scores, self._places, ends = index["data"], index["indices"], index["indptr"]
        self._starts, self._sizes = ends[:-1], np.diff(ends)
        self._sections = len(sections)

    def scores(self, texts: Sequence[Tokens]) -> Vectors:
        """One row per text and one score per section, divided by the root of the number of different tokens.

        The division makes short and long texts comparable; measured against none and against
        the plain number, it separates ordinary from labelled prompts best.
        """
        different = [sorted(set(tokens.tolist())) for tokens in texts]  # np.unique takes longer on a few
        tokens = np.array([*itertools.chain.from_iterable(different)], np.intp)
        numbers = np.array([len(some) for some in different])
        cells = (np.arange(len(texts)) * self._sections).repeat(numbers)
        sizes = self._sizes[tokens]
        entries = spans(self._starts[tokens], sizes)
        sums = np.bincount(
            self._places[entries] + cells.repeat(sizes), self._scores[entries], len(texts) * self._sections
        )
        scores: Vectors = sums.reshape(len(texts), -1).astype(np.float32)
        scores /= np.sqrt(np.maximum(numbers, 1), dtype=np.float32)[:, None]
        return scores


def spans(starts: NDArray[np.intp], sizes: NDArray[np.intp]) -> NDArray[np.intp]:
    """The numbers ``start``, ``start + 1``, ..., so many from each start, one after another."""
    ends = sizes.cumsum()
    numbers: NDArray[np.intp] = (starts - ends + sizes).repeat(sizes)
    numbers += np.arange(len(numbers))
    return numbers
