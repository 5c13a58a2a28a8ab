"""``generate`` without a teacher: thinkings from labels, answers from the answer book and the student.

For machines on which no teacher that follows the policy can be run. Clause and verdict come from the
label, a few words from the request itself. Refusals and safe completions come from a book
written by hand for each clause; answers to allowed requests are the student's own from before the
training, which costs it least of what it can do. The card of a model made so must say it.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from guard.policy.model import Clause, Policy, Ruling
from training.deliberate import written_thinking
from training.files import read_toml
from training.records import Completion, Prompt

MODEL = "written"
_OPENINGS = ("I'm sorry, but I can't help with", "Sorry, I can't help with", "I'm sorry, I can't help with")
_WORD = re.compile(r"[a-z']{3,}")

Text = Annotated[str, Field(min_length=1)]


class _Refusal(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    topic: Text
    offers: Annotated[tuple[Text, ...], Field(min_length=1)]


class AnswerBook(BaseModel):
    """What is said where a clause refuses or completes safely, by clause id."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    refuse: Mapping[str, _Refusal]
    safe_complete: Mapping[str, Annotated[tuple[Text, ...], Field(min_length=1)]]

    def answer(self, clause: Clause, policy: Policy, key: str) -> str | None:
        """The answer for a clause, varied by ``key``; the policy's own text where the book has no refusal."""
        lot = hashlib.sha256(key.encode()).digest()
        if clause.ruling is Ruling.SAFE_COMPLETE:
            texts = self.safe_complete.get(clause.id)
            return texts[lot[0] % len(texts)] if texts else None
        entry = self.refuse.get(clause.id)
        if entry is None:
            return policy.refusal((policy.section_of[clause.id].id,))
        offer = entry.offers[lot[1] % len(entry.offers)]
        return f"{_OPENINGS[lot[0] % len(_OPENINGS)]} {entry.topic}. {offer}"


def load_answers(path: Path) -> AnswerBook:
    """Read the answer book.

    Raises:
        DataError: It is absent or not of this form.
    """
    return read_toml(path, AnswerBook)


def write_completions(
    prompts: Sequence[Prompt],
    policy: Policy,
    book: AnswerBook,
    own: Mapping[str, str],
    answered: int | None = None,
) -> tuple[list[Completion], dict[str, Any]]:
    """A completion for every prompt whose ruling and clause are known.

    Args:
        prompts: What to answer.
        policy: The policy that the clauses come from.
        book: Refusals and safe completions.
        own: The student's own answers, by prompt id, from :func:`own_prompts`.
        answered: How many rows teach a text of the book, refusals and safe completions as they come; about
            as many as ``own``, or the student learns one answer whatever the verdict. All where it is None.
    """
    skipped: Counter[str] = Counter()
    completions = []
    clause_of = _Neighbours(prompts)
    limited = sorted((p.id for p in prompts if p.ruling is not Ruling.COMPLY), reverse=True)
    told = frozenset(limited[:answered])
    for prompt in prompts:
        name = prompt.clause or (clause_of(prompt) if prompt.ruling is not Ruling.COMPLY else None)
        clause = policy.clauses[name] if name else None
        if prompt.ruling is None or (clause is None and prompt.ruling is not Ruling.COMPLY):
            skipped["no ruling or clause"] += 1
            continue
        thinking = written_thinking(prompt.plain or prompt.text, prompt.ruling, clause, prompt.variant)
        if prompt.ruling is Ruling.COMPLY:
            answer = own.get(prompt.id)
        elif prompt.id not in told:
            answer = None
        else:
            answer = book.answer(clause, policy, prompt.id) if clause else None
            if answer is None:
                skipped["no safe completion in the answer book"] += 1
                continue
        completions.append(
            Completion(
                prompt=prompt.id,
                sample=0,
                model=MODEL,
                thinking=thinking,
                answer=answer or "",
                closed=True,
                thinking_only=answer is None,
            )
        )
    return completions, {"completions": len(completions), "skipped": dict(skipped)}


def own_prompts(prompts: Sequence[Prompt], limit: int) -> list[Prompt]:
    """The prompts that the student answers itself: a fixed draw, half of them ordinary if there are so many.

    The others lie near the boundary. A student that had seen answers of its own to ordinary prompts alone
    refused a third of the boundary prompts of XSTest that it had just decided to answer (docs/log.md).
    """
    allowed = sorted(
        (p for p in prompts if p.ruling is Ruling.COMPLY and p.split == "train"), key=lambda p: p.id
    )
    ordinary = [p for p in allowed if p.source == "ordinary" and p.variant == "plain"]
    others = [p for p in allowed if p.source != "ordinary" or p.variant != "plain"]
    near = others[: max(limit - limit // 2, limit - len(ordinary))]
    return [*ordinary[: limit - len(near)], *near]


class _Neighbours:
    """The clause of the most similar hand-written prompt of the same section and ruling."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self._known: defaultdict[tuple[str | None, Ruling | None], list[tuple[frozenset[str], str]]] = (
            defaultdict(list)
        )
        for prompt in prompts:
            if prompt.clause and prompt.variant == "plain":
                self._known[prompt.section, prompt.ruling].append((_words(prompt.text), prompt.clause))

    def __call__(self, prompt: Prompt) -> str | None:
        words = _words(prompt.text)
        known = self._known.get((prompt.section, prompt.ruling))
        if not known:
            return None
        return max(known, key=lambda other: len(words & other[0]) / (1 + len(words | other[0])))[1]


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))
