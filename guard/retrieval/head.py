"""What labelled prompts teach about sections: a linear layer over a window's embedding and its words.

The embedding says what a window is about as a whole; the words' own log-odds correct it where the mean of
many words blurs the one that decides.

A head belongs to the sections it was fitted for, by id and title, and says nothing about others; those
keep the margins of the text scorer. So a policy may gain, lose and reword sections under a head. A
section that changed its subject should change its id or title too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from guard.policy.model import Section
from guard.retrieval.dense import Vectors, exact
from guard.retrieval.index import Query
from guard.retrieval.scorer import Scorer

BUNDLED = Path(__file__).parent / "embeddings" / "head.safetensors"
"""The head for the sections of the default policy; made by ``training/retrieval_head.py``."""

_FLOOR = -1.0
"""Least text margin that is added to a head's: absent candidates count as merely far away."""


@dataclass(frozen=True, eq=False)
class Head:
    """Fitted log-odds of sections."""

    sections: tuple[tuple[str, str], ...]
    """Id and title of each section, in the order of the columns."""
    weights: Vectors
    """Dimensions x sections: log-odds of the section against ordinary text, per unit of embedding."""
    words: NDArray[np.int8]
    """Token ids x sections: log-odds of each word piece, in ``unit``; added up over a window and divided by
    the square root of its length."""
    unit: float
    """Log-odds of one step in ``words``."""
    bias: Vectors
    """Log-odds at the origin, per section."""
    mix: float
    """Log-odds that one unit of text margin adds."""
    zero: float
    """Log-odds from which a section is given."""
    scale: float
    """Log-odds per unit of margin, which makes head and text margins comparable."""

    @classmethod
    def load(cls, path: Path = BUNDLED) -> Head:
        """Read a head from a safetensors file.

        Raises:
            OSError: The file cannot be read.
            ValueError: It holds something else.
        """
        try:
            with safe_open(path, "numpy") as file:
                about = file.metadata() or {}
                weights, words, bias = (file.get_tensor(name) for name in ("weights", "words", "bias"))
            sections = tuple((str(name), str(title)) for name, title in orjson.loads(about["sections"]))
            unit, *numbers = [float(about[key]) for key in ("unit", "mix", "zero", "scale")]
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{path} is not a retrieval head: {error}") from error
        if any(tensor.shape[-1:] != (len(sections),) for tensor in (weights, words, bias)):
            raise ValueError(f"{path} is not a retrieval head: {weights.shape} for {len(sections)} sections")
        weights, bias = weights.astype(np.float32), bias.astype(np.float32)
        return cls(sections, weights, words.astype(np.int8), unit, bias, *numbers)


class HeadScorer:
    """A text scorer corrected by a head, where the head knows the section."""

    def __init__(self, text: Scorer, head: Head, sections: Sequence[Section]) -> None:
        """Match the head's columns with the policy's sections."""
        column = {known: number for number, known in enumerate(head.sections)}
        pairs = [
            (number, column[section.id, section.title])
            for number, section in enumerate(sections)
            if (section.id, section.title) in column
        ]
        self._text = text
        self._places = np.array([place for place, _ in pairs], np.intp)
        columns = np.array([found for _, found in pairs], np.intp)
        weights = (head.weights[:, columns] / head.scale).astype(np.float32)
        longest = np.linalg.norm(weights, axis=0).max(initial=1.0)
        self._weights = np.ascontiguousarray(exact(weights, float(longest)))
        self._words = np.ascontiguousarray(head.words[:, columns])
        self._unit = np.float32(head.unit / head.scale)
        self._bias = ((head.bias[columns] - head.zero) / head.scale).astype(np.float32)
        self._mix = np.float32(head.mix / head.scale)

    def __call__(self, query: Query) -> Vectors:
        """Margins of the head for the sections it knows, of the text for the others."""
        margins = self._text(query)
        text = np.maximum(margins[:, self._places], _FLOOR)
        known = query.rows @ self._weights + self._bias + self._mix * text
        lengths = np.array([len(tokens) for tokens in query.tokens])
        words = self._words[np.concatenate(query.tokens)]
        sums = np.add.reduceat(words, lengths.cumsum() - lengths, axis=0, dtype=np.float32)
        known += sums * (self._unit / np.sqrt(lengths, dtype=np.float32))[:, None]
        margins[:, self._places] = known
        return margins
