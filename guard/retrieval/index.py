"""What a section looks like to retrieval: passages, their embeddings, their words.

A section is represented by many short passages rather than by one text, because a prompt resembles
one clause or one example, never all of them at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from guard.policy.model import Section
from guard.retrieval.dense import StaticEncoder, Tokens, Vectors
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
    """A unit row per passage."""
    centre: Vectors
    """The mean of the rows."""
    words: Counted
    """Words of all passages and of the reasons."""

    @classmethod
    def of(cls, section: Section, encoder: StaticEncoder) -> Entry:
        """Embed and count one section."""
        tokens = [encoder.tokens(text) for text in passages(section)]
        words = np.concatenate([*tokens, encoder.tokens(section.why)])
        rows = encoder.means(tokens)
        return cls(rows, rows.mean(axis=0, dtype=np.float32), Counted.of(words))


def entries(
    sections: Sequence[Section], encoder: StaticEncoder, known: Mapping[Section, Entry]
) -> dict[Section, Entry]:
    """The entry of each section, taken from ``known`` where the section has not changed."""
    return {section: known.get(section) or Entry.of(section, encoder) for section in sections}


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """Windows of client text, embedded and cut into tokens, all in one go."""

    rows: Vectors
    """A unit row per window."""
    tokens: tuple[Tokens, ...]
    """The token ids of each window."""
