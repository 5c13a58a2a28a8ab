"""Ordinary text: what a prompt looks like that no section is about.

Retrieval asks not only how near a text is to a section but whether it is nearer to the section than
to everyday questions. The sample that comes with the package is this project's own; an operator
whose users ask other everyday things can give a sample of those instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import orjson

from guard.retrieval.dense import StaticEncoder, Tokens, Vectors, exact

BUNDLED = Path(__file__).parent / "embeddings" / "ordinary.json"
"""Two thirds of ``training/prompts/ordinary.jsonl``, those that are not kept for measuring."""


@dataclass(frozen=True)
class Background:
    """Ordinary texts, embedded."""

    rows: Vectors
    """A unit row per text, exact."""
    tokens: tuple[Tokens, ...]
    """The token ids of each text."""

    @classmethod
    def of(cls, texts: Sequence[str], encoder: StaticEncoder) -> Background:
        """Embed a sample of ordinary texts, at least one."""
        tokens = tuple(encoder.tokens(text) for text in texts)
        return cls(exact(encoder.means(tokens)), tokens)

    @classmethod
    def load(cls, encoder: StaticEncoder, path: Path = BUNDLED) -> Background:
        """Embed the texts of a JSON list.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is not a JSON list of texts.
        """
        texts = orjson.loads(path.read_bytes())
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{path} is not a JSON list of texts")
        return cls.of(texts, encoder)

    @cached_property
    def mean(self) -> Vectors:
        """The mean row."""
        mean: Vectors = self.rows.mean(axis=0, dtype=np.float32)
        return mean

    def nearness(self, rows: Vectors, *, own: bool = False) -> Vectors:
        """How near the nearest ordinary text is to each row: their cosine, or its part that the rows hold.

        Args:
            rows: Unit rows, exact, or their leading dimensions.
            own: The rows are the sample's own, so that each is left out of its own comparison.
        """
        products = rows @ self.rows[:, : rows.shape[1]].T
        if own:
            np.fill_diagonal(products, -1.0)
        nearest: Vectors = products.max(axis=1)
        return nearest
