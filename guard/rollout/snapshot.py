"""Everything a request needs of one policy version, built once and swapped by one reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from guard.deliberation.leak import Runs, runs
from guard.policy.compose import SpecText, render_policy
from guard.policy.model import Clause, Policy
from guard.retrieval.dense import StaticEncoder
from guard.retrieval.hybrid import Retriever


class SpecInContext(StrEnum):
    """Which policy text goes into the prompt."""

    RETRIEVED = "retrieved"
    """The constant part and the retrieved sections: for a model that was not trained on the policy."""
    DRIFT = "drift"
    """Only retrieved sections that the model did not learn in this wording (its card says which)."""


@dataclass(frozen=True)
class Snapshot:
    """A policy in force, ready to serve; immutable."""

    policy: Policy
    spec: SpecText
    retriever: Retriever
    earlier: Mapping[str, tuple[Clause, ...]]
    """Clauses as earlier versions had them, by clause id; what makes a citation stale."""
    _runs: dict[str, Runs] = field(default_factory=dict, repr=False, compare=False)
    """Of the texts that were hidden in a prompt so far."""

    def hidden(self, given: Iterable[str]) -> tuple[Runs, ...]:
        """The runs of words that an answer must not quote: those of the constant part and of sections.

        Args:
            given: Ids of the sections in the prompt.
        """
        texts = [self.spec.constant, *map(self.spec.sections.__getitem__, given)]
        for text in texts:
            if text not in self._runs:
                self._runs[text] = runs(text)
        return tuple(map(self._runs.__getitem__, texts))

    def remembering(self, policies: Iterable[Policy]) -> Snapshot:
        """This snapshot, with the clauses of these earlier policies known as such."""
        earlier = dict(self.earlier)
        for policy in policies:
            _remember(earlier, policy, self.policy)
        return replace(self, earlier=earlier)


def build_snapshot(policy: Policy, encoder: StaticEncoder, previous: Snapshot | None = None) -> Snapshot:
    """Index and render a policy.

    Args:
        policy: Loaded and checked.
        encoder: The embeddings that retrieval uses.
        previous: The snapshot to be replaced; what did not change is taken from it, and its clauses
            are remembered as earlier ones.
    """
    earlier: dict[str, tuple[Clause, ...]] = dict(previous.earlier) if previous else {}
    if previous:
        _remember(earlier, previous.policy, policy)
    retriever = Retriever.build(policy, encoder, previous=previous.retriever if previous else None)
    return Snapshot(policy, render_policy(policy), retriever, earlier)


def _remember(earlier: dict[str, tuple[Clause, ...]], old: Policy, current: Policy) -> None:
    for clause_id, clause in old.clauses.items():
        known = earlier.get(clause_id, ())
        if clause != current.clauses.get(clause_id) and clause not in known:
            earlier[clause_id] = (*known, clause)
