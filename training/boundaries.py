"""The boundaries of a policy: each clause that does not comply, beside the nearest one that does."""

from __future__ import annotations

from typing import NamedTuple

from guard.policy.model import Clause, Policy, Ruling, Section
from guard.retrieval.dense import StaticEncoder
from training.held_out import concerns_children


class Boundary(NamedTuple):
    """Two clauses of one section, next to each other in meaning, between which a request is decided."""

    section: Section
    crossed: Clause
    """Refuses or completes safely."""
    allows: Clause
    """Complies."""


def boundaries(policy: Policy) -> list[Boundary]:
    """Every boundary, in the policy's order.

    Sections on children are left out: no model is asked to write about those. So are sections where no
    clause complies.
    """
    encoder = StaticEncoder.load()
    found = []
    for section in policy.sections:
        allowing = [clause for clause in section.clauses if clause.ruling is Ruling.COMPLY]
        crossed = [clause for clause in section.clauses if clause.ruling is not Ruling.COMPLY]
        if not allowing or not crossed or concerns_children(f"{section.title} {section.summary}"):
            continue
        vectors = encoder.encode([clause.text for clause in (*crossed, *allowing)])
        nearest = (vectors[: len(crossed)] @ vectors[len(crossed) :].T).argmax(axis=1)  # [crossed]
        found += [
            Boundary(section, clause, allowing[at]) for clause, at in zip(crossed, nearest, strict=True)
        ]
    return found
