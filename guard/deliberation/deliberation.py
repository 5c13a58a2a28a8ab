"""One thinking, read and checked: citations, verdict, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from guard.deliberation.citations import Citation, CitationStatus, check_citations
from guard.deliberation.verdict import read_verdict
from guard.policy.model import Clause, Policy, Ruling


class Finding(StrEnum):
    """What can be wrong with a deliberation or with the answer after it."""

    NO_VERDICT = "no_verdict"
    """The thinking, if there was any, ends without a decision."""
    NO_CITATION = "no_citation"
    """The verdict is refuse or safe_complete, and no clause is cited for it."""
    UNKNOWN_CITATION = "unknown_citation"
    MISQUOTED_CITATION = "misquoted_citation"
    STALE_CITATION = "stale_citation"
    NOT_GIVEN_CITATION = "not_given_citation"
    VERDICT_AGAINST_CLAUSE = "verdict_against_clause"
    """None of the cited clauses, nor an exception of one, leads to the verdict."""
    BUDGET_EXHAUSTED = "budget_exhausted"
    """The token budget ended inside the thinking."""
    ANSWER_AGAINST_VERDICT = "answer_against_verdict"
    """The answer does not do what the thinking decided."""
    POLICY_LEAK = "policy_leak"
    """The answer quotes a long stretch of the policy that is in the prompt."""


_OF_STATUS = {
    CitationStatus.UNKNOWN: Finding.UNKNOWN_CITATION,
    CitationStatus.MISQUOTED: Finding.MISQUOTED_CITATION,
    CitationStatus.STALE: Finding.STALE_CITATION,
    CitationStatus.NOT_GIVEN: Finding.NOT_GIVEN_CITATION,
}

_STRICTNESS = {Ruling.COMPLY: 0, Ruling.SAFE_COMPLETE: 1, Ruling.REFUSE: 2}


class Deliberation(NamedTuple):
    """A thinking and what was read from it."""

    thinking: str
    verdict: Ruling | None
    citations: tuple[Citation, ...]
    findings: tuple[Finding, ...]


def read_deliberation(
    thinking: str,
    policy: Policy,
    *,
    given: frozenset[str] = frozenset(),
    learnt: frozenset[str] = frozenset(),
    earlier: Mapping[str, tuple[Clause, ...]] | None = None,
    exhausted: bool = False,
    dictated: bool = False,
) -> Deliberation:
    """Read one thinking against the policy in force.

    Args:
        thinking: The text between the tags; empty where the model did not think.
        policy: The policy of this request's snapshot.
        given: Ids of the sections whose full text was before the model.
        learnt: Digests of the sections the model was trained on.
        earlier: Clauses of earlier policy versions, by clause id.
        exhausted: The token budget ended inside this thinking.
        dictated: The request holds a decision itself, which the thinking may repeat.
    """
    citations = check_citations(thinking, policy, given=given, learnt=learnt, earlier=earlier)
    verdict = read_verdict(thinking, dictated=dictated)
    findings: dict[Finding, None] = {}
    if exhausted:
        findings[Finding.BUDGET_EXHAUSTED] = None
    if verdict is None:
        findings[Finding.NO_VERDICT] = None
    elif verdict is not Ruling.COMPLY and not citations:
        findings[Finding.NO_CITATION] = None
    for citation in citations:
        if citation.status in _OF_STATUS:
            findings[_OF_STATUS[citation.status]] = None
    if verdict is not None and not follows(verdict, citations, policy):
        findings[Finding.VERDICT_AGAINST_CLAUSE] = None
    return Deliberation(thinking, verdict, citations, tuple(findings))


def follows(verdict: Ruling, citations: tuple[Citation, ...], policy: Policy) -> bool:
    """Whether the verdict follows from a cited clause that exists, or from an exception of one.

    A thinking weighs clauses against each other, so one that leads to the verdict is enough. An
    exception makes a clause milder, never stricter. Without known clauses there is nothing to
    contradict.
    """
    clauses = [policy.clauses[c.clause] for c in citations if c.clause in policy.clauses]
    if not clauses:
        return True
    return any(
        clause.ruling is verdict or (clause.exceptions and _STRICTNESS[verdict] < _STRICTNESS[clause.ruling])
        for clause in clauses
    )
