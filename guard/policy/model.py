"""The policy as data: frozen, with a content digest at every level.

A digest is ``sha256`` over canonical JSON (sorted keys, no spaces), in hex. Two policies with the
same digest say the same thing, whatever their files look like.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from functools import cached_property

import orjson

_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS


class Ruling(StrEnum):
    """What a clause asks for; also the verdict of a thinking."""

    COMPLY = "comply"
    SAFE_COMPLETE = "safe_complete"
    REFUSE = "refuse"


def digest(value: object) -> str:
    """Hex sha256 of the canonical JSON of ``value`` (anything orjson can write)."""
    return hashlib.sha256(orjson.dumps(value, option=_CANONICAL)).hexdigest()


@dataclass(frozen=True)
class Clause:
    """One rule, the unit of citation."""

    id: str
    """Upper-case section prefix and number, such as ``SH3``; never reused."""
    ruling: Ruling
    text: str
    exceptions: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Content digest."""
        return digest(asdict(self))


@dataclass(frozen=True)
class Example:
    """A prompt near the boundary, the ruling it must get and the clause that decides."""

    prompt: str
    ruling: Ruling
    clause: str


@dataclass(frozen=True)
class Section:
    """One subject of the policy: what is meant, the clauses, and why they exist."""

    id: str
    title: str
    summary: str
    """One line; the summaries of all sections are always before the model."""
    definitions: str
    clauses: tuple[Clause, ...]
    why: str
    safe_completion: str
    """How to answer where a clause says ``safe_complete``; empty where the general style applies."""
    examples: tuple[Example, ...]

    @cached_property
    def digest(self) -> str:
        """Content digest."""
        return digest(asdict(self))


@dataclass(frozen=True)
class Policy:
    """A whole policy, sections in canonical order."""

    name: str
    title: str
    version: str
    precedence: tuple[str, ...]
    """How conflicts between clauses are resolved, strongest rule first."""
    principles: tuple[str, ...]
    """Style and helpfulness, whatever the verdict."""
    styles: Mapping[Ruling, str]
    """How an answer of each ruling reads."""
    refusals: Mapping[str, str]
    """The guard's own refusal texts, by section id; ``default`` is always there."""
    sections: tuple[Section, ...]

    @cached_property
    def digest(self) -> str:
        """Content digest over the manifest and the sections' digests; names the policy everywhere."""
        manifest = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "sections"}
        return digest({**manifest, "sections": [section.digest for section in self.sections]})

    @cached_property
    def clauses(self) -> Mapping[str, Clause]:
        """Every clause by id."""
        return {clause.id: clause for section in self.sections for clause in section.clauses}

    @cached_property
    def section_of(self) -> Mapping[str, Section]:
        """The section of each clause, by clause id."""
        return {clause.id: section for section in self.sections for clause in section.clauses}

    @cached_property
    def section(self) -> Mapping[str, Section]:
        """Every section by id."""
        return {section.id: section for section in self.sections}

    @cached_property
    def position(self) -> Mapping[str, int]:
        """Place of each section in canonical order, by section id."""
        return {section.id: place for place, section in enumerate(self.sections)}

    def refusal(self, section_ids: tuple[str, ...] = ()) -> str:
        """The refusal text of the first named section that has one, else the default."""
        for section_id in section_ids:
            if section_id in self.refusals:
                return self.refusals[section_id]
        return self.refusals["default"]
