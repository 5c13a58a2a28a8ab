"""Word overlap between a text and the sections: BM25 over word pieces.

The index is bm25s's; only its construction is our own, because bm25s counts document frequencies in
Python loops and takes longer over a thousand sections than a policy reload may last.
"""

from __future__ import annotations

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

    @staticmethod
    def _compute_relevance_from_scores(
        data: Vectors,
        indptr: NDArray[np.int64],
        indices: NDArray[np.int32],
        num_docs: int,
        query_tokens_ids: Tokens,
        dtype: np.dtype[Any],
    ) -> Vectors:
        """The sum over all tokens at once; bm25s's own loop adds them one by one (its own hook, too)."""
        starts, ends = indptr[query_tokens_ids].tolist(), indptr[query_tokens_ids + 1].tolist()
        spans = [slice(start, end) for start, end in zip(starts, ends, strict=True) if start < end]
        if not spans:
            return np.zeros(num_docs, dtype)
        places = np.concatenate([indices[span] for span in spans])
        weights = np.concatenate([data[span] for span in spans])
        return np.bincount(places, weights, num_docs).astype(dtype)


class LexicalIndex:
    """BM25 scores of all sections for a text's tokens."""

    def __init__(self, sections: Sequence[Counted], vocabulary: int) -> None:
        """Build the index.

        Args:
            sections: The words of each section, in order; at least one section.
            vocabulary: Number of token ids.
        """
        self._index = _Index(method="lucene")
        self._index.nonoccurrence_array = None
        ids = range(vocabulary)
        self._index.scores = self._index.build_index_from_ids(list(ids), sections)

    def scores(self, tokens: Tokens) -> Vectors:
        """One score per section, divided by the square root of the number of different tokens.

        The division makes short and long texts comparable; measured against none and against
        the plain number, it separates ordinary from labelled prompts best.
        """
        distinct = np.array(sorted(set(tokens.tolist())), np.intp)  # np.unique takes longer on a few
        found: Vectors = self._index.get_scores_from_ids(distinct)
        return found / np.float32(max(len(distinct), 1) ** 0.5)
