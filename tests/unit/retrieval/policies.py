"""Small policies for tests."""

from __future__ import annotations

from collections.abc import Mapping

from guard.policy.model import Clause, Example, Policy, Ruling, Section


def section(section_id: str, text: str, example: str = "", title: str = "") -> Section:
    """A section of one clause."""
    prefix = section_id[:2].upper()
    examples = (Example(example, Ruling.REFUSE, f"{prefix}1"),) if example else ()
    clauses = (Clause(f"{prefix}1", Ruling.REFUSE, text),)
    return Section(section_id, title or section_id, text, "", clauses, "", "", examples)


def policy_of(texts: Mapping[str, str]) -> Policy:
    """A policy of one-clause sections, in the mapping's order."""
    sections = tuple(section(section_id, text) for section_id, text in texts.items())
    return Policy("test", "Test", "1", ("first",), ("be plain",), {}, {"default": "No."}, sections)
