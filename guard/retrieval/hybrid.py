"""Which sections matter for a conversation: every reading of every text, scored against every section."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from guard.policy.model import Policy, Section
from guard.retrieval.background import Background
from guard.retrieval.dense import StaticEncoder, Tokens
from guard.retrieval.head import Head, HeadScorer
from guard.retrieval.index import Entry, Query, entries
from guard.retrieval.normalise import PLAIN, Reading, readings, readings_of
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


class Hit(NamedTuple):
    """A section that matters for a conversation."""

    section: str
    """Section id."""
    score: float
    """Margin; the best hit's is above zero."""
    via: str
    """How the text that matched was read: ``plain`` or the decodings (see ``normalise``)."""


class Window(NamedTuple):
    """A stretch of one reading of a text."""

    tokens: Tokens
    """Its token ids."""
    via: str
    """How the text was read."""
    handicap: float
    """What its margins lose against those of a single short text."""


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
        windows = self.windows(texts)
        return self.hits([windows], max_sections=max_sections)[0] if windows else ()

    def decoded(self, texts: Sequence[str], hits: Sequence[Hit]) -> dict[str, Reading]:
        """How those texts read that had to be decoded for a hit, in the way of the best such hit.

        Args:
            texts: The texts of a conversation that was retrieved for.
            hits: What was found, best first.
        """
        ways = decodings(hits)
        found: dict[str, Reading] = {}
        for text in texts if ways else ():
            by_way = {reading.via: reading for reading in readings(text, self._encoder.lexicon)}
            way = next(filter(by_way.__contains__, ways), None)
            if way is not None:
                found[text] = by_way[way]
        return found

    def windows(self, texts: Sequence[str]) -> tuple[Window, ...]:
        """Every reading of the texts of a conversation, newest first, in windows; none without a word."""
        return self.windows_of([texts])[0]

    def windows_of(self, conversations: Sequence[Sequence[str]]) -> list[tuple[Window, ...]]:
        """The windows of each conversation; read together, which costs less than one by one."""
        looked_at = [_newest(texts) for texts in conversations]
        every = [text for texts in looked_at for text in texts]
        read = iter(readings_of(every, self._encoder.lexicon))
        return [self._windows([next(read) for _ in texts]) for texts in looked_at]

    def _windows(self, texts: Sequence[Sequence[Reading]]) -> tuple[Window, ...]:
        found: list[Window] = []
        seen = 0
        for text in texts:
            parts = [(reading.via, self._encoder.windows(reading.text)) for reading in text]
            seen += min(len(windows) for _, windows in parts)  # an encoded text is longer than it is
            handicap = MANY * math.log2(max(seen, 1))
            found.extend(Window(window, via, handicap) for via, windows in parts for window in windows)
        return tuple(found)

    def hits(
        self, conversations: Sequence[Sequence[Window]], *, max_sections: int = 3
    ) -> list[tuple[Hit, ...]]:
        """The sections that matter for each conversation, best first.

        Conversations are scored together, which costs less than one by one and changes no bit of what
        each gets.

        Args:
            conversations: One or more, each with a window at least.
            max_sections: At most this many hits for each.
        """
        query = Query.of([[window.tokens for window in windows] for windows in conversations], self._encoder)
        every = [window for windows in conversations for window in windows]
        margins = self._score(query) - np.array([window.handicap for window in every], np.float32)[:, None]
        best = query.best(margins)
        top = best.max(axis=1, keepdims=True)
        near = np.flatnonzero((best > top - COMPANY) & (top > 0))  # in two dimensions it takes thrice as long
        found: list[list[tuple[float, int]]] = [[] for _ in conversations]
        for place, score in zip(near.tolist(), best.take(near).tolist(), strict=True):
            number, column = divmod(place, len(self._ids))
            found[number].append((-score, column))

        starts = query.starts.tolist()

        def hits(number: int) -> Iterator[Hit]:
            windows, first = conversations[number], starts[number]
            for score, column in sorted(found[number])[:max_sections]:
                clearest = 0
                if len(windows) > 1:
                    clearest = int(margins[first : first + len(windows), column].argmax())
                yield Hit(self._ids[column], -score, windows[clearest].via)

        return [tuple(hits(number)) for number in range(len(conversations))]


def _newest(texts: Sequence[str]) -> list[str]:
    """The texts of a conversation that are looked at; the last one may go over ``CONVERSATION``."""
    ends = itertools.accumulate(map(len, texts), initial=0)
    return [text for text, before in zip(texts, ends, strict=False) if before < CONVERSATION]


def decodings(hits: Sequence[Hit]) -> tuple[str, ...]:
    """The ways in which texts had to be decoded for these hits, that of the best first, each once."""
    return tuple(dict.fromkeys(hit.via for hit in hits if hit.via != PLAIN))


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
