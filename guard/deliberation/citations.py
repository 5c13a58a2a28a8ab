"""Which clauses a thinking cites, and whether each citation holds.

Written as ``[SH3]``, optionally followed by quoted words: ``[SH3] "…"``. Readers are lenient: several
ids in one bracket, lower case, "section SH3", "clause SH3" and "rule SH3" without brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from rapidfuzz import fuzz

from guard.policy.model import Clause, Policy

QUOTE_MATCH = 90.0
"""Least rapidfuzz partial ratio (0-100) between the quoted words and the clause: a changed ending or
a dropped word passes, another sentence does not (tests/unit/deliberation/test_citations.py)."""
QUOTE_MIN_WORDS = 3
"""Fewer quoted words are emphasis, not a quotation."""

_ID = r"[A-Za-z]{2,4}[1-9][0-9]{0,2}"
_MENTION = re.compile(
    rf"\[\s*(?:(?:section|clause|rule)\s+)?(?P<ids>{_ID}(?:\s*(?:[,;/&]|and)\s*{_ID})*)\s*\]"
    rf"|\b(?:section|clause|rule)s?\s+(?P<bare>{_ID})\b",
    re.IGNORECASE,
)
_ONE_ID = re.compile(_ID)
_QUOTE = re.compile(r"[\s:,(]*[\"“”«](?P<quote>[^\"“”«»\n]{1,600})[\"“”»]")


class CitationStatus(StrEnum):
    """What checking a citation against the policy in force found."""

    VERIFIED = "verified"
    """The clause exists, was before the model or learnt in training, and quoted words are its own."""
    UNKNOWN = "unknown"
    """No policy version has such a clause."""
    MISQUOTED = "misquoted"
    """The clause exists; the quoted words are not in it."""
    STALE = "stale"
    """An earlier version of the policy had this clause, or these words."""
    NOT_GIVEN = "not_given"
    """The clause exists, but its section was neither given nor learnt."""


class Mention(NamedTuple):
    """A clause id as it stands in the thinking."""

    clause: str
    """Upper case."""
    quote: str
    """The quoted words after it, or empty."""
    start: int
    end: int
    """Character span of the bracket (and quote) in the thinking."""


@dataclass(frozen=True, slots=True)
class Citation:
    """One mention, checked."""

    clause: str
    status: CitationStatus
    quote: str
    start: int
    end: int
    section: str | None
    """Section of the clause in the policy in force; None where there is none."""


def find_mentions(thinking: str) -> Iterator[Mention]:
    """Every clause id that is cited, in order of appearance."""
    for match in _MENTION.finditer(thinking):
        quoted = _QUOTE.match(thinking, match.end())
        quote = " ".join(quoted["quote"].split()) if quoted else ""
        end = quoted.end() if quoted else match.end()
        ids = _ONE_ID.findall(match["ids"] or match["bare"])
        for position, clause in enumerate(ids):
            last = position == len(ids) - 1
            yield Mention(clause.upper(), quote if last else "", match.start(), end)


def check_citations(
    thinking: str,
    policy: Policy,
    *,
    given: frozenset[str],
    learnt: frozenset[str] = frozenset(),
    earlier: Mapping[str, tuple[Clause, ...]] | None = None,
) -> tuple[Citation, ...]:
    """Find and check every citation.

    Args:
        thinking: The text between the tags.
        policy: The policy of this request's snapshot.
        given: Ids of the sections whose full text was before the model.
        learnt: Digests of the sections that the model was trained on (its card names them).
        earlier: Clauses of earlier versions of the policy, by clause id.
    """
    earlier = earlier or {}
    checked = []
    for mention in find_mentions(thinking):
        section = policy.section_of.get(mention.clause)
        status = _status(mention, policy, given, learnt, earlier)
        checked.append(
            Citation(
                mention.clause,
                status,
                mention.quote,
                mention.start,
                mention.end,
                section.id if section else None,
            )
        )
    return tuple(checked)


def _status(
    mention: Mention,
    policy: Policy,
    given: frozenset[str],
    learnt: frozenset[str],
    earlier: Mapping[str, tuple[Clause, ...]],
) -> CitationStatus:
    former = earlier.get(mention.clause, ())
    clause = policy.clauses.get(mention.clause)
    if clause is None:
        return CitationStatus.STALE if former else CitationStatus.UNKNOWN
    if not quotes(mention.quote, clause):
        stale = any(quotes(mention.quote, old) for old in former)
        return CitationStatus.STALE if stale else CitationStatus.MISQUOTED
    section = policy.section_of[mention.clause]
    if section.id in given or section.digest in learnt:
        return CitationStatus.VERIFIED
    return CitationStatus.NOT_GIVEN


def quotes(quote: str, clause: Clause) -> bool:
    """Whether these words are the clause's own; emphasis of a word or two always is."""
    if len(quote.split()) < QUOTE_MIN_WORDS:
        return True
    said = quote.lower().strip(" .…")
    texts = (clause.text, *clause.exceptions)
    return any(
        len(said) <= len(text) + 2 and fuzz.partial_ratio(said, text.lower()) >= QUOTE_MATCH for text in texts
    )
