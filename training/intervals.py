"""Shares with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Share:
    """A share of rows, with its 95 % bootstrap interval."""

    hits: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float | None:
        """The share itself; None of nothing."""
        return self.hits / self.of if self.of else None

    def as_json(self) -> dict[str, float | int | None]:
        """Plain numbers."""
        value = self.value
        return {
            "value": None if value is None else round(value, 4),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
            "hits": self.hits,
            "of": self.of,
        }

    def __str__(self) -> str:
        """Such as ``0.912 [0.884, 0.936] (228/250)``."""
        if not self.of:
            return "-"
        return f"{self.hits / self.of:.3f} [{self.low:.3f}, {self.high:.3f}] ({self.hits}/{self.of})"


def share(hits: Sequence[bool], *, resamples: int = 2000, seed: int = 0) -> Share:
    """The share of true values; the interval is the 2.5th to 97.5th percentile of resampled shares."""
    if not hits:
        return Share(0, 0, 0.0, 0.0)
    values = np.asarray(hits, dtype=np.float64)
    drawn = np.random.default_rng(seed).binomial(len(values), values.mean(), size=resamples) / len(values)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Share(int(values.sum()), len(values), float(low), float(high))


def grouped_share(groups: Sequence[Sequence[bool]], *, resamples: int = 2000, seed: int = 0) -> Share:
    """The share over rows of which those of one group stand or fall together, such as labels of one text.

    The interval is that of resampled groups, wider than that of as many independent rows.
    """
    hits = np.array([sum(group) for group in groups if group])
    sizes = np.array([len(group) for group in groups if group])
    if not len(sizes):
        return Share(0, 0, 0.0, 0.0)
    drawn = np.random.default_rng(seed).integers(len(sizes), size=(resamples, len(sizes)))
    shares = hits[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)  # [resamples]
    low, high = np.percentile(shares, [2.5, 97.5])
    return Share(int(hits.sum()), int(sizes.sum()), float(low), float(high))


@dataclass(frozen=True)
class Mean:
    """A mean over independent things, with its 95 % bootstrap interval."""

    value: float | None
    """None of nothing."""
    of: int
    low: float
    high: float

    def as_json(self) -> dict[str, float | int | None]:
        """Plain numbers."""
        return {
            "value": None if self.value is None else round(self.value, 4),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
            "of": self.of,
        }

    def __str__(self) -> str:
        """Such as ``0.412 [0.384, 0.446] (n = 100)``."""
        if self.value is None:
            return "-"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n = {self.of})"


def mean(values: Sequence[float], *, resamples: int = 2000, seed: int = 0) -> Mean:
    """The mean; the interval is that of resampled means."""
    if not values:
        return Mean(None, 0, 0.0, 0.0)
    given = np.asarray(values, dtype=np.float64)
    picked = np.random.default_rng(seed).integers(len(given), size=(resamples, len(given)))
    low, high = np.percentile(given[picked].mean(axis=1), [2.5, 97.5])
    return Mean(float(given.mean()), len(given), float(low), float(high))
