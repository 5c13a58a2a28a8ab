"""What changed between two versions of a policy, clause by clause.

Clauses are matched by id over the whole policy, since the id is what a thinking cites and a record
keeps. An id that comes to mean something else is the worst that can happen to those records, so it
is called out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from rapidfuzz import fuzz

from guard.policy.model import Clause, Example, Policy, Section

ANOTHER_MEANING = 50.0
"""Clauses of one section of specs/default that say different things resemble each other by 44 at the
median and 58 at most (rapidfuzz token_sort_ratio, 0-100), rewordings of a clause by 54 and more."""
SAME_WORDS = 80.0
"""A new clause this close to a removed one is that clause under another id."""


class Change(StrEnum):
    """What happened to a clause or a section."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    """Sections only; what of it changed is listed."""
    RULING = "ruling"
    TEXT = "text"
    EXCEPTIONS = "exceptions"
    MOVED = "moved"
    """The clause stands in another section."""


class Caution(StrEnum):
    """A change that breaks the rule that ids are never reused."""

    REUSED = "reused"
    """The id now stands for something else."""
    RENUMBERED = "renumbered"
    """A clause was removed and comes back under another id."""
    RETURNED = "returned"
    """An id that an earlier version had, and the old one not, is back."""


@dataclass(frozen=True, slots=True)
class TextChange:
    """One named text; empty where it is absent."""

    what: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class ClauseChange:
    """One clause that differs."""

    id: str
    changes: tuple[Change, ...]
    old: Clause | None
    new: Clause | None


@dataclass(frozen=True, slots=True)
class SectionChange:
    """One section that differs."""

    id: str
    change: Change
    old_digest: str
    """Empty where the section is new."""
    new_digest: str
    """Empty where the section was removed."""
    texts: tuple[TextChange, ...]
    clauses: tuple[ClauseChange, ...]
    examples_added: tuple[Example, ...]
    examples_removed: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Warned:
    """One caution, at a clause id of the new policy."""

    caution: Caution
    clause: str
    message: str


@dataclass(frozen=True, slots=True)
class Version:
    """Which policy was compared."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class PolicyDiff:
    """Everything that differs; empty where both say the same."""

    old: Version
    new: Version
    manifest: tuple[TextChange, ...]
    sections: tuple[SectionChange, ...]
    """In the new policy's order, removed ones last."""
    warned: tuple[Warned, ...]

    @property
    def same(self) -> bool:
        """Whether both policies say the same."""
        return self.old.digest == self.new.digest


def diff(old: Policy, new: Policy, earlier: Iterable[Policy] = ()) -> PolicyDiff:
    """Compare two versions of a policy.

    Args:
        old: The version to start from.
        new: The version to arrive at.
        earlier: Versions before ``old``; ids that only they had are known as used.
    """
    return PolicyDiff(
        old=_version(old),
        new=_version(new),
        manifest=(
            *_texts(_manifest_texts(old), _manifest_texts(new)),
            *_order("order of sections", tuple(old.section), tuple(new.section)),
        ),
        sections=tuple(_sections(old, new)),
        warned=tuple(_cautions(old, new, tuple(earlier))),
    )


def _version(policy: Policy) -> Version:
    return Version(policy.name, policy.version, policy.digest)


def _manifest_texts(policy: Policy) -> dict[str, str]:
    numbered = {
        f"{name} {number}": text
        for name, texts in (("precedence", policy.precedence), ("principle", policy.principles))
        for number, text in enumerate(texts, start=1)
    }
    return {
        "name": policy.name,
        "title": policy.title,
        "version": policy.version,
        **numbered,
        **{f"style {ruling}": text for ruling, text in policy.styles.items()},
        **{f"refusal {section}": text for section, text in policy.refusals.items()},
    }


def _section_texts(section: Section | None) -> dict[str, str]:
    if section is None:
        return {}
    return {
        "title": section.title,
        "summary": section.summary,
        "definitions": section.definitions,
        "why": section.why,
        "safe completion": section.safe_completion,
    }


def _texts(old: dict[str, str], new: dict[str, str]) -> Iterator[TextChange]:
    for what in dict.fromkeys((*old, *new)):
        before, after = old.get(what, ""), new.get(what, "")
        if before != after:
            yield TextChange(what, before, after)


def _order(what: str, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[TextChange]:
    """A new order of what both have."""
    before, after = [one for one in old if one in new], [one for one in new if one in old]
    if before != after:
        yield TextChange(what, ", ".join(before), ", ".join(after))


def _sections(old: Policy, new: Policy) -> Iterator[SectionChange]:
    for section_id in dict.fromkeys((*new.section, *old.section)):
        before, after = old.section.get(section_id), new.section.get(section_id)
        if before and after and before.digest == after.digest:
            continue
        was, now = (before.examples if before else ()), (after.examples if after else ())
        yield SectionChange(
            id=section_id,
            change=Change.CHANGED if before and after else Change.ADDED if after else Change.REMOVED,
            old_digest=before.digest if before else "",
            new_digest=after.digest if after else "",
            texts=(
                *_texts(_section_texts(before), _section_texts(after)),
                *_order("order of clauses", _ids(before), _ids(after)),
            ),
            clauses=tuple(_clauses(before, after, old, new)),
            examples_added=tuple(example for example in now if example not in was),
            examples_removed=tuple(example for example in was if example not in now),
        )


def _ids(section: Section | None) -> tuple[str, ...]:
    return tuple(clause.id for clause in section.clauses) if section else ()


def _clauses(
    before: Section | None, after: Section | None, old: Policy, new: Policy
) -> Iterator[ClauseChange]:
    for clause in after.clauses if after else ():
        former = old.clauses.get(clause.id)
        changes = tuple(_changes(former, clause, old, new)) if former else (Change.ADDED,)
        if changes:
            yield ClauseChange(clause.id, changes, former, clause)
    for clause in before.clauses if before else ():
        if clause.id not in new.clauses:
            yield ClauseChange(clause.id, (Change.REMOVED,), clause, None)


def _changes(former: Clause, clause: Clause, old: Policy, new: Policy) -> Iterator[Change]:
    if former.ruling is not clause.ruling:
        yield Change.RULING
    if former.text != clause.text:
        yield Change.TEXT
    if former.exceptions != clause.exceptions:
        yield Change.EXCEPTIONS
    if old.section_of[clause.id].id != new.section_of[clause.id].id:
        yield Change.MOVED


def _cautions(old: Policy, new: Policy, earlier: tuple[Policy, ...]) -> Iterator[Warned]:
    removed = [clause for clause in old.clauses.values() if clause.id not in new.clauses]
    for clause in new.clauses.values():
        former = old.clauses.get(clause.id)
        if former:
            if _likeness(former, clause) < ANOTHER_MEANING:
                message = f"{clause.id} seems to mean something else now; give a new rule a new id"
                yield Warned(Caution.REUSED, clause.id, message)
            continue
        if any(clause.id in policy.clauses for policy in earlier):
            message = f"{clause.id} was removed before and is back; ids are never used again"
            yield Warned(Caution.RETURNED, clause.id, message)
        for gone in removed:
            if _likeness(gone, clause) >= SAME_WORDS:
                message = f"{clause.id} says what {gone.id} said; keep the id, records cite it"
                yield Warned(Caution.RENUMBERED, clause.id, message)


def _likeness(one: Clause, other: Clause) -> float:
    return fuzz.token_sort_ratio(one.text.lower(), other.text.lower())
