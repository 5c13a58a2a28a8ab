"""What a section looks like to retrieval: passages, their embeddings, their words.

A section is represented by many short passages rather than by one text, because a prompt resembles
one clause or one example, never all of them at once.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from guard.policy.model import Section
from guard.retrieval.dense import StaticEncoder, Tokens, Vectors, exact
from guard.retrieval.lexical import Counted

_MARKUP = re.compile(r"[*_`#>]+|^\s*[-+]\s+")


def passages(section: Section) -> tuple[str, ...]:
    """The texts that stand for a section: title and summary, definitions, clauses, examples."""
    definitions = (_MARKUP.sub("", line) for line in section.definitions.splitlines())
    clauses = (" ".join((clause.text, *clause.exceptions)) for clause in section.clauses)
    examples = (example.prompt for example in section.examples)
    return (f"{section.title}. {section.summary}", *definitions, *clauses, *examples)


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One section, embedded and counted; depends on its text and the encoder alone."""

    rows: Vectors
    """A unit row per passage, exact."""
    centre: Vectors
    """The mean of the rows."""
    words: Counted
    """Words of all passages and of the reasons."""

    @classmethod
    def of(cls, section: Section, encoder: StaticEncoder) -> Entry:
        """Embed and count one section."""
        tokens = [encoder.tokens(text) for text in passages(section)]
        words = np.concatenate([*tokens, encoder.tokens(section.why)])
        rows = exact(encoder.means(tokens))
        return cls(rows, rows.mean(axis=0, dtype=np.float32), Counted.of(words))


def entries(
    sections: Sequence[Section], encoder: StaticEncoder, known: Mapping[Section, Entry]
) -> dict[Section, Entry]:
    """The entry of each section, taken from ``known`` where the section has not changed."""
    return {section: known.get(section) or Entry.of(section, encoder) for section in sections}


@dataclass(frozen=True, eq=False)
class Query:
    """Windows of the texts of conversations, embedded and cut into tokens, all in one go."""

    rows: Vectors
    """A unit row per window, exact; the windows of one conversation stand together."""
    tokens: tuple[Tokens, ...]
    """The token ids of each window, one or more."""
    sizes: NDArray[np.intp]
    """Windows of each conversation, one or more."""

    @classmethod
    def of(cls, conversations: Sequence[Sequence[Tokens]], encoder: StaticEncoder) -> Query:
        """Embed the windows of one conversation or more, given as token ids."""
        tokens = tuple(itertools.chain.from_iterable(conversations))
        sizes = np.array([len(windows) for windows in conversations], np.intp)
        return cls(exact(encoder.means(tokens)), tokens, sizes)

    @cached_property
    def starts(self) -> NDArray[np.intp]:
        """The first window of each conversation."""
        return self.sizes.cumsum() - self.sizes

    def best(self, values: Vectors) -> Vectors:
        """The best that each conversation's windows reach, column by column.

        Args:
            values: A row per window.
        """
        if len(values) == len(self.sizes):  # a window each, as short prompts have: nothing to compare
            return values
        best: Vectors = np.maximum.reduceat(values, self.starts)
        return best

    def only(self, windows: Sequence[int], sizes: NDArray[np.intp]) -> Query:
        """Some of the windows, so many of each conversation."""
        return Query(self.rows[windows], tuple(self.tokens[number] for number in windows), sizes)
