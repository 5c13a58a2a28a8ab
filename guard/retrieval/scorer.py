"""How much each section has to do with each window of text.

A scorer gives margins: above zero means that the section should be put before the model, and margins
of one call can be compared. ``TextScorer`` works for any policy: it knows nothing but the policy's own
words and a sample of ordinary text. ``guard.retrieval.head`` adds what was learnt from labelled prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from guard.retrieval.background import Background
from guard.retrieval.dense import Vectors, exact
from guard.retrieval.index import Entry, Query
from guard.retrieval.lexical import LexicalIndex, spans

WINDOWS = 16
"""Windows of a long text or conversation that are scored in full, the best by direction."""
CANDIDATES = 16
"""Sections whose single passages are compared; of more sections the best by direction are taken."""
SHORTLIST = 32
"""Sections of a large policy whose directions are compared in full, the best by the leading dimensions."""
LEADING = 64
"""Dimensions of the first look at a large policy; embeddings that went through PCA hold most in the first
ones. Of 400 labelled prompts and 1,000 sections, 98.8 % of the three best directions are on the shortlist."""
NEARBY = 32
"""Dimensions in which a large policy's passages and ordinary texts are compared with a window. Recall among
1,000 sections is 0.465 with these and 0.444 with all 256 (``tests/bench/retrieval.py``)."""
NEAR = 0.5
"""Weight of the nearest passage where the direction has 1; tuned, like the next, by cross-validation on
two thirds of the project's labelled pairs. Half or twice as much changes recall by one point."""
WORDS = 0.1
"""Weight of BM25."""
ORDINARY_RATE = 0.08
"""Share of ordinary texts that may get a section; sets the zero of the text scorer's margins."""
_CALIBRATION = 96
"""Ordinary texts used to find the zero of a large policy."""


class Scorer(Protocol):
    """Scores windows against the sections of one policy."""

    def __call__(self, query: Query) -> Vectors:
        """Margins, a row per window and a column per section in the policy's order."""


class TextScorer:
    """Margins from the policy's text alone.

    The score of a section is the sum of three terms: how far the window lies from ordinary text in
    the direction of the section's centre, how much nearer the section's nearest passage is than the
    nearest ordinary text, and BM25. The zero is put where ``ORDINARY_RATE`` of the ordinary texts
    come over it, so that it fits policies of any number and kind of sections.
    """

    def __init__(self, entries: Sequence[Entry], background: Background, vocabulary: int) -> None:
        """Build the arrays; at least one entry."""
        self._background = background
        self._sizes = np.array([len(entry.rows) for entry in entries])
        self._starts = np.cumsum(self._sizes) - self._sizes
        directions = np.stack([entry.centre for entry in entries]) - background.mean
        directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), np.float32(1e-12))
        directions = exact(directions)
        self._offsets: Vectors = directions @ background.mean
        large, dimensions = len(entries) > CANDIDATES, background.rows.shape[1]
        leading = LEADING if large else dimensions
        self._nearby = NEARBY if large else dimensions
        self._rows = np.concatenate([entry.rows[:, : self._nearby] for entry in entries])
        self._leading: Vectors = np.ascontiguousarray(directions.T[:leading])
        self._rest: Vectors = np.ascontiguousarray(directions[:, leading:])
        self._words = LexicalIndex([entry.words for entry in entries], vocabulary)
        self._zero = self._calibrated(background)

    def __call__(self, query: Query) -> Vectors:
        """Margins; minus infinity beyond the best ``WINDOWS`` windows and ``CANDIDATES`` sections.

        Both are the best of each conversation.
        """
        along = self._along(query.rows)
        if query.sizes.max() <= WINDOWS:
            return self._refined(query, along, self._ordinary(query.rows)) - self._zero
        clearest = np.split(along.max(axis=1), query.starts[1:])
        best = [np.argsort(-part, kind="stable")[:WINDOWS] for part in clearest]
        kept = np.concatenate([some + start for some, start in zip(best, query.starts, strict=True)])
        fewer = query.only(kept.tolist(), np.minimum(query.sizes, WINDOWS))
        margins = np.full_like(along, -np.inf)
        margins[kept] = self._refined(fewer, along[kept], self._ordinary(fewer.rows)) - self._zero
        return margins

    def _ordinary(self, rows: Vectors, *, own: bool = False) -> Vectors:
        return self._background.nearness(rows[:, : self._nearby], own=own)

    def _along(self, rows: Vectors) -> Vectors:
        """How far windows lie along each section's direction; of many sections, in the leading dimensions.

        That is what a policy of a thousand sections costs: its directions are a megabyte, which no
        processor has at hand after a request's other work.
        """
        leading: Vectors = rows[:, : len(self._leading)] @ self._leading - self._offsets
        return leading

    def _refined(self, query: Query, along: Vectors, ordinary: Vectors) -> Vectors:
        """Add words and nearest passages to the scores along the sections' directions."""
        along += np.float32(WORDS) * self._words.scores(query.tokens)
        if along.shape[1] <= CANDIDATES:
            nearest = np.maximum.reduceat(query.rows @ self._rows.T, self._starts, axis=1)
            return along + np.float32(NEAR) * (nearest - ordinary[:, None])
        owners, lines = np.arange(len(query.sizes)).repeat(query.sizes), np.arange(len(along))[:, None]
        chosen = _best(query.best(along), SHORTLIST)
        listed = chosen[owners]
        rest = np.matmul(self._rest[listed], query.rows[:, LEADING:, None])[..., 0]
        closer = along[lines, listed] + rest
        best = _best(query.best(closer), CANDIDATES)
        chosen = chosen[np.arange(len(chosen))[:, None], best]
        nearest = self._nearest(query, chosen)
        scores = np.full_like(along, -np.inf)
        scores[lines, chosen[owners]] = closer[lines, best[owners]] + np.float32(NEAR) * (
            nearest - ordinary[:, None]
        )
        return scores

    def _nearest(self, query: Query, chosen: NDArray[np.intp]) -> Vectors:
        """How near the nearest passage of each of its conversation's sections is to each window.

        By their leading dimensions, for the passages of all sections are megabytes.
        """
        nearest = np.empty((len(query.rows), chosen.shape[1]), np.float32)
        rows = query.rows[:, : self._nearby]
        sizes = self._sizes[chosen]
        edges = sizes.cumsum(axis=1)
        ends = edges[:, -1].cumsum().tolist()
        edges -= sizes
        numbers = spans(self._starts[chosen].ravel(), sizes.ravel())
        row = start = 0
        for inner, count, end in zip(edges, query.sizes.tolist(), ends, strict=True):
            products = rows[row : row + count] @ self._rows.take(numbers[start:end], axis=0).T
            np.maximum.reduceat(products, inner, axis=1, out=nearest[row : row + count])
            row, start = row + count, end
        return nearest

    def _calibrated(self, background: Background) -> np.float32:
        """The score that ``ORDINARY_RATE`` of the ordinary texts exceed."""
        step = 1 if len(self._sizes) <= 100 else max(1, len(background.rows) // _CALIBRATION)
        ordinary = self._ordinary(background.rows, own=True)[::step]
        rows, tokens = background.rows[::step], background.tokens[::step]
        query = Query(rows, tokens, np.ones(len(rows), np.intp))
        best = self._refined(query, self._along(rows), ordinary).max(axis=1)
        return np.float32(np.quantile(best, 1 - ORDINARY_RATE))


def _best(scores: Vectors, count: int) -> NDArray[np.intp]:
    """The columns with the best scores, in each row; all of them where they are no more than ``count``."""
    first = max(scores.shape[1] - count, 0)
    return scores.argpartition(first, axis=1)[:, first:]
