"""Warnings about a policy that can be used: what makes its clauses hard to follow, cite or test.

What cannot be used at all is an error, found while loading. A warning is about the text alone, so
the same policy always gets the same warnings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from guard.errors import Problem
from guard.policy.characters import INVISIBLE
from guard.policy.compose import disarm, estimate_tokens, render_section
from guard.policy.manifest import MANIFEST
from guard.policy.model import Clause, Policy, Ruling, Section

SECTION_TOKENS = (400, 600)
"""A smaller section leaves the model to guess; of larger ones too few fit into a prompt."""
LEAST_EXAMPLES = 8
LEAST_ALLOWED = 0.5
"""Share of examples that get an answer (comply or safe_complete): they guard against refusing too much."""
SENTENCE_WORDS = 30
"""A model quotes a short sentence whole; of a long one it quotes the part that suits it."""

VAGUE = (
    "generally",
    "usually",
    "normally",
    "typically",
    "appropriate",
    "appropriately",
    "inappropriate",
    "reasonable",
    "reasonably",
    "unreasonable",
    "suitable",
    "proper",
    "properly",
    "improper",
    "problematic",
    "questionable",
    "harmful",
    "bad",
    "etc",
    "and so on",
    "and the like",
    "or similar",
    "various",
    "in some cases",
    "in certain cases",
    "as needed",
    "if needed",
    "if necessary",
    "where necessary",
    "where possible",
    "when possible",
    "try to",
)
"""Words that leave the decision to the reader."""

_VAGUE = re.compile(rf"\b(?:{'|'.join(VAGUE)})\b", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_UNSEEN = re.compile(f"[{INVISIBLE}]")
_NO_WORD = re.compile(r"[\W_]+")


def lint(policy: Policy, lines: Mapping[str, int] | None = None) -> tuple[Problem, ...]:
    """Every warning, in file order.

    Args:
        policy: A policy that loaded without problems.
        lines: Line of each clause in its file, by clause id; warnings have no line without it.
    """
    lines = lines or {}
    found = [*_repeated_prompts(policy), *_manifest_characters(policy)]
    for section in policy.sections:
        for clause_id, message in _section(section, policy):
            found.append(Problem(f"{section.id}.md", lines.get(clause_id, 0), message))
    return tuple(sorted(found))


def _section(section: Section, policy: Policy) -> Iterator[tuple[str, str]]:
    """Clause id, or empty where the whole section is meant, and message."""
    text = render_section(section)
    tokens, (least, most) = estimate_tokens(text), SECTION_TOKENS
    if not least <= tokens <= most:
        yield "", f"is about {tokens} tokens; write {least} to {most}"
    yield from (("", message) for message in (*_examples(section), *_characters(text)))
    rulings = {clause.ruling for clause in section.clauses}
    for ruling in (Ruling.COMPLY, Ruling.REFUSE):
        if ruling not in rulings:
            yield "", f"has no clause that says {ruling}"
    if section.safe_completion and Ruling.SAFE_COMPLETE not in rulings:
        yield "", "has a safe completion style, but no clause that says safe_complete"
    styled = bool(section.safe_completion or policy.styles.get(Ruling.SAFE_COMPLETE))
    exercised = {example.clause for example in section.examples}
    for clause in section.clauses:
        if clause.ruling is Ruling.SAFE_COMPLETE and not styled:
            yield clause.id, f"{clause.id} says safe_complete, but no style says how such an answer reads"
        if clause.id not in exercised:
            yield clause.id, f"{clause.id} has no example"
        yield from ((clause.id, f"{clause.id}: {message}") for message in _wording(clause))


def _examples(section: Section) -> Iterator[str]:
    count = len(section.examples)
    allowed = sum(example.ruling is not Ruling.REFUSE for example in section.examples)
    if count < LEAST_EXAMPLES:
        yield f"has {count} examples; write at least {LEAST_EXAMPLES}"
    if allowed < count * LEAST_ALLOWED:
        yield f"{allowed} of {count} examples get an answer; at least half should"


def _wording(clause: Clause) -> Iterator[str]:
    for text in (clause.text, *clause.exceptions):
        for vague in dict.fromkeys(match.lower() for match in _VAGUE.findall(text)):
            yield f"{vague!r} leaves the decision to the reader; say what decides"
        for sentence in _SENTENCE_END.split(text):
            words = len(sentence.split())
            if words > SENTENCE_WORDS:
                yield f"a sentence of {words} words; write at most {SENTENCE_WORDS}"


def _characters(text: str) -> Iterator[str]:
    for unseen in dict.fromkeys(_UNSEEN.findall(text)):
        yield f"holds the invisible character U+{ord(unseen):04X}"
    if disarm(text) != text:
        yield "holds a tag that means something to the engine, such as <policy> or <think>"


def _manifest_characters(policy: Policy) -> Iterator[Problem]:
    texts = (policy.title, *policy.precedence, *policy.principles, *policy.styles.values())
    for message in _characters("\n".join((*texts, *policy.refusals.values()))):
        yield Problem(MANIFEST, 0, message)


def _repeated_prompts(policy: Policy) -> Iterator[Problem]:
    """Prompts that are the same but for case, spacing and punctuation."""
    first: dict[str, str] = {}
    for section in policy.sections:
        for example in section.examples:
            words = _NO_WORD.sub(" ", example.prompt.casefold()).strip() or example.prompt
            place = first.get(words)
            if place:
                message = f"example {example.prompt!r} ({example.clause}) stands already under {place}"
                yield Problem(f"{section.id}.md", 0, message)
            else:
                first[words] = example.clause
