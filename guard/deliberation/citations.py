"""Which clauses a thinking cites, and whether each citation holds.

Written as ``[SH3]``, optionally followed by quoted words: ``[SH3] "…"``. Readers are lenient: several
ids in one bracket, lower case, "section SH3", "clause SH3" and "rule SH3" without brackets. A range
such as ``[SH1-SH6]`` names a section, as it does in the prompt, and cites no clause.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from heapq import merge
from itertools import groupby
from typing import NamedTuple

from rapidfuzz import fuzz
from rapidfuzz.distance import LCSseq

from guard.policy.model import Clause, Policy, Ruling

QUOTE_MATCH = 90.0
"""Least rapidfuzz partial ratio (0-100) between the quoted words and the clause. Over specs/default, a
clause quoted whole passes with a changed ending, passes with one word dropped in 9 of 10 cases, and
never passes for another clause (tests/unit/deliberation/test_citations.py holds this)."""
QUOTE_MIN_WORDS = 3
"""Fewer quoted words are emphasis, not a quotation."""

_ID = r"[A-Za-z]{2,4}[1-9][0-9]{0,2}"
_IDS = rf"{_ID}(?:(?:\s*[,;/&+]\s*|\s+)(?:(?:and|or)\s+)?{_ID})*"
_KIND = r"(?:sections?|clauses?|rules?)\s+"
_BRACKET = re.compile(rf"\[\s*(?:{_KIND})?(?P<ids>{_IDS})\s*\]", re.IGNORECASE)
_BARE = re.compile(rf"\b{_KIND}(?P<ids>{_IDS})\b", re.IGNORECASE)
_ONE_ID = re.compile(_ID)
_QUOTE = re.compile(
    r"[^\S\n]*(?:[:,(*_–—-][^\S\n]*)*"
    r"[\"“”„«](?P<quote>(?:[^\"“”„«»\n\[]|\[(?:…|\.{3})\]){1,600})[\"“”»]"
)
_LEFT_OUT = re.compile(r"\[?(?:…|\.{3})\]?")
_RULING = re.compile(rf"(?:{'|'.join(Ruling)}):\s*")
_NEGATION = re.compile(r"not|no|none|never|neither|nor|nobody|nothing|without|unless|except|only|\w+n't")
_WORD = re.compile(r"[\w'-]+")


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
    """Every clause id that is cited, in order of appearance; quoted words cite nothing themselves."""
    end = 0
    for match in _in_order(thinking):
        if match.start() < end:  # in the last quotation, or in its own brackets
            continue
        quoted = _QUOTE.match(thinking, match.end())
        quote = " ".join(quoted["quote"].split()) if quoted else ""
        end = quoted.end() if quoted else match.end()
        ids = _ONE_ID.findall(match["ids"])
        if match.re is _BRACKET and _indexes(thinking, match):
            continue
        for position, clause in enumerate(ids):
            last = position == len(ids) - 1
            yield Mention(clause.upper(), quote if last else "", match.start(), end)


def _in_order(thinking: str) -> Iterator[re.Match[str]]:
    """Ids in brackets and bare ones, by their place; the bare are rare and cost more to look for."""
    brackets = _BRACKET.finditer(thinking)
    low = thinking.lower()
    if "section" not in low and "clause" not in low and "rule" not in low:
        return brackets
    return merge(brackets, _BARE.finditer(thinking), key=re.Match.start)


def _indexes(thinking: str, match: re.Match[str]) -> bool:
    """Whether the bracket indexes a variable, as in ``data[row1]``."""
    before = thinking[match.start() - 1 : match.start()]
    return (before.isalnum() or before in {"_", ")", "]"}) and not match["ids"].isupper()


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
    checked: list[Citation] = []
    for _, bracket in groupby(find_mentions(thinking), key=lambda mention: mention.start):
        for mention in _attributed(list(bracket), policy):
            section = policy.section_of.get(mention.clause)
            status = _status(mention, policy, given, learnt, earlier)
            written = thinking[mention.start : mention.end]
            if status is CitationStatus.UNKNOWN and mention.clause not in written:
                continue  # a word in lower case that only looks like an id
            section_id = section.id if section else None
            checked.append(
                Citation(mention.clause, status, mention.quote, mention.start, mention.end, section_id)
            )
    return tuple(checked)


def _attributed(bracket: list[Mention], policy: Policy) -> list[Mention]:
    """The mentions of one bracket, the quotation given to the clause whose words it holds."""
    quote = bracket[-1].quote
    for mention in bracket:
        clause = policy.clauses.get(mention.clause)
        if quote and clause and quotes(quote, clause):
            return [other._replace(quote=quote if other is mention else "") for other in bracket]
    return bracket


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
    """Whether these words are the clause's own; emphasis of a word or two always is.

    Left-out words may be marked by an ellipsis, small slips pass, a dropped "not" does not.
    """
    if len(quote.split()) < QUOTE_MIN_WORDS:
        return True
    said = _RULING.sub("", _plain(quote), count=1)
    parts = [part for part in (piece.strip(" .") for piece in _LEFT_OUT.split(said)) if part]
    texts = [_plain(text) for text in (clause.text, *clause.exceptions)]
    return all(any(_holds(text, part) for text in texts) for part in parts)


def _plain(text: str) -> str:
    return " ".join(text.lower().replace("’", "'").split())


def _holds(text: str, said: str) -> bool:
    if len(said) > len(text) + 2:
        return False
    found = fuzz.partial_ratio_alignment(said, text, score_cutoff=QUOTE_MATCH)
    if found is None or found.score < QUOTE_MATCH:
        return False
    words = _WORD.findall(said)
    return _negations(words) == _negations(_between(text, found.dest_start, found.dest_end, words))


def _between(text: str, start: int, end: int, said: list[str]) -> list[str]:
    """The text's words from the first to the last that was said, looked for around this span."""
    found = list(_WORD.finditer(text))
    near = [at for at, word in enumerate(found) if word.end() > start and word.start() < end]
    words = [word[0] for word in found[max(near[0] - 2, 0) : near[-1] + 3]] if near else []
    same = [op for op in LCSseq.opcodes(said, words) if op.tag == "equal"]
    return words[same[0].dest_start : same[-1].dest_end] if same else []


def _negations(words: list[str]) -> list[str]:
    return [word for word in words if _NEGATION.fullmatch(word)]
