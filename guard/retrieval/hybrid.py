"""Which sections matter for a conversation: every reading of every text, scored against every section."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from guard.policy.model import Policy, Section
from guard.retrieval.background import Background
from guard.retrieval.dense import StaticEncoder, Tokens
from guard.retrieval.head import Head, HeadScorer
from guard.retrieval.index import Entry, Query, entries
from guard.retrieval.normalise import readings
from guard.retrieval.scorer import Scorer, TextScorer

MANY = 0.045
"""Margin that a window has to make up for each doubling of the windows that were looked at up to and with
its text, newest first. It keeps the share of ordinary documents that get a section about what it is for
single prompts, and lets the newest text count most."""
COMPANY = 0.25
"""Sections this close behind the best are given with it: which of several near ones is meant shows only
when they are read."""
CONVERSATION = 40_000
"""Characters of a conversation that are looked at, newest first."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A section that matters for a conversation."""

    section: str
    """Section id."""
    score: float
    """Margin; the best hit's is above zero."""
    via: str
    """How the text that matched was read: ``plain`` or the decodings (see ``normalise``)."""


@dataclass(frozen=True)
class _Window:
    tokens: Tokens
    via: str
    handicap: float


class Retriever:
    """Finds the sections of one policy; immutable."""

    def __init__(
        self,
        policy: Policy,
        encoder: StaticEncoder,
        background: Background,
        head: Head | None,
        known: Mapping[Section, Entry],
    ) -> None:
        """Index the policy; use ``build``."""
        self._encoder = encoder
        self._background = background
        self._head = head
        self._entries = entries(policy.sections, encoder, known)
        self._ids = tuple(section.id for section in policy.sections)
        scorer: Scorer = TextScorer(list(self._entries.values()), background, encoder.vocabulary)
        if head:
            scorer = HeadScorer(scorer, head, policy.sections)
        self._score = scorer

    @classmethod
    def build(
        cls,
        policy: Policy,
        encoder: StaticEncoder,
        *,
        background: Background | None = None,
        head: Head | None = None,
        previous: Retriever | None = None,
    ) -> Retriever:
        """Index a policy.

        Args:
            policy: The policy; at least one section.
            encoder: Embeds sections and queries.
            background: Ordinary texts of this service; the bundled ones if not given.
            head: What was learnt for the policy's sections; if not given, the bundled head is used
                with the bundled encoder, and none with another.
            previous: The retriever of an earlier version with the same encoder, whose embeddings of
                unchanged sections, background and head are taken over.
        """
        known: Mapping[Section, Entry] = {}
        if previous is not None and previous._encoder is encoder:
            known = previous._entries
            background = background or previous._background
            head = head or previous._head
        if head is None and encoder.bundled:
            head = Head.load()
        return cls(policy, encoder, background or Background.load(encoder), head, known)

    def retrieve(self, texts: Sequence[str], *, max_sections: int = 3) -> tuple[Hit, ...]:
        """The sections that matter, best first; none where everything looks ordinary.

        Args:
            texts: The texts of a conversation, newest first. The newest counts most, the others must
                be clearer to trigger, as must a passage of a long text.
            max_sections: At most this many hits.
        """
        found = self._windows(texts)
        if not found:
            return ()
        tokens = tuple(window.tokens for window in found)
        rows = self._encoder.means(tokens)
        handicaps = np.array([window.handicap for window in found], np.float32)
        margins = self._score(Query(rows, tokens)) - handicaps[:, None]
        best = margins.max(axis=0)
        top = best.max()
        if top <= 0:
            return ()
        near = np.flatnonzero(best > top - COMPANY)
        order = near[np.argsort(-best[near], kind="stable")][:max_sections]
        return tuple(
            Hit(self._ids[number], float(best[number]), found[margins[:, number].argmax()].via)
            for number in order.tolist()
        )

    def _windows(self, texts: Sequence[str]) -> list[_Window]:
        found: list[_Window] = []
        left = CONVERSATION
        seen = 0
        for text in texts:
            if left <= 0:
                break
            left -= len(text)
            parts = [(r.via, self._encoder.windows(r.text)) for r in readings(text, self._encoder.lexicon)]
            seen += min(len(windows) for _, windows in parts)  # an encoded text is longer than it is
            handicap = MANY * math.log2(max(seen, 1))
            found.extend(_Window(window, via, handicap) for via, windows in parts for window in windows)
        return found


def fit(
    hits: Sequence[Hit], policy: Policy, budget_tokens: int, count: Callable[[str], int]
) -> tuple[str, ...]:
    """The sections that fit into a token budget.

    Args:
        hits: Best first.
        policy: Gives the canonical order.
        budget_tokens: Tokens that the sections may take together.
        count: Tokens of a section's text, by section id.

    Returns:
        Section ids in canonical order. Hits are taken best first; one that is too large for what is
        left is passed over.
    """
    given: set[str] = set()
    left = budget_tokens
    for hit in hits:
        size = count(hit.section)
        if size <= left:
            given.add(hit.section)
            left -= size
    return tuple(sorted(given, key=policy.position.__getitem__))
