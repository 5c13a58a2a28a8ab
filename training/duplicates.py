"""Exact and near duplicates of known texts, found by MinHash and confirmed by Jaccard similarity.

A text is the set of its character 5-grams after case, punctuation and white space are levelled. Bands
of MinHash values propose candidates (99.9 % of pairs with similarity 0.6), the sets themselves decide.
"""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

SHINGLE = 5
BANDS, ROWS = 32, 3
_MAX_CHARACTERS = 2000
_LEVEL = re.compile(r"[^\w]+")


def level(text: str) -> str:
    """The text without case, punctuation and layout."""
    return _LEVEL.sub(" ", text.lower()).strip()[:_MAX_CHARACTERS]


def shingles(text: str) -> frozenset[int]:
    """Hashes of the character 5-grams of a text."""
    padded = f" {level(text)} "
    return frozenset(
        zlib.crc32(padded[i : i + SHINGLE].encode()) for i in range(max(1, len(padded) - SHINGLE + 1))
    )


def jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    """Shared share of two sets."""
    return len(a & b) / len(a | b)


@dataclass
class Reference:
    """Texts to keep away from."""

    threshold: float
    _sets: list[tuple[str, frozenset[int]]] = field(default_factory=list)
    _exact: dict[str, str] = field(default_factory=dict)
    _bands: defaultdict[tuple[int, bytes], list[int]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, texts: Iterable[tuple[str, str]], threshold: float) -> Reference:
        """Index texts, each with the name of its set."""
        reference = cls(threshold)
        for name, text in texts:
            reference.add(name, text)
        return reference

    def add(self, name: str, text: str) -> None:
        """Index one more text under the name of its set."""
        levelled = level(text)
        if levelled in self._exact:
            return
        self._exact[levelled] = name
        grams = shingles(text)
        at = len(self._sets)
        self._sets.append((name, grams))
        for key in _keys(grams):
            self._bands[key].append(at)

    def __len__(self) -> int:
        """How many distinct texts are indexed."""
        return len(self._sets)

    def match(self, text: str) -> tuple[str, str] | None:
        """Set and kind (``exact`` or ``near``) of a text this one repeats; None where it repeats none."""
        exact = self._exact.get(level(text))
        if exact is not None:
            return exact, "exact"
        grams = shingles(text)
        candidates = {at for key in _keys(grams) for at in self._bands.get(key, ())}
        for at in sorted(candidates):
            name, other = self._sets[at]
            if jaccard(grams, other) >= self.threshold:
                return name, "near"
        return None


_generator = np.random.default_rng(20241216)
_A, _B = _generator.integers(0, 1 << 64, size=(2, BANDS * ROWS), dtype=np.uint64)
_A |= np.uint64(1)
_HIGH = np.uint64(32)


def _keys(grams: frozenset[int]) -> list[tuple[int, bytes]]:
    """One key a band, by multiply-shift in 64 bits.

    The products wrap round many times, so that each function orders the grams in its own way; where they
    do not, the same few grams are the least in every band.
    """
    values = np.fromiter(grams, dtype=np.uint64, count=len(grams))
    hashed = (values[:, None] * _A[None, :] + _B[None, :]) >> _HIGH  # [grams, BANDS * ROWS]
    least = hashed.min(axis=0).reshape(BANDS, ROWS)
    return [(band, least[band].tobytes()) for band in range(BANDS)]
