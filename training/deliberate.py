"""How a deliberation is written: the form the student learns, and the scaffold that fills it.

    <think>
    Not allowed: words of the clause [SH3]. The request: "words of the request"
    Decision: refuse
    </think>

    the answer

The reader of this form is ``guard.deliberation``; nothing here reads.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from guard.deliberation.citations import find_mentions
from guard.deliberation.verdict import write_verdict
from guard.policy.model import Clause, Ruling
from training.variants import NOTES

QUOTE_WORDS = 7
GIST_WORDS = 9
NO_CLAUSE = "No clause stands against it."
FINDINGS = {
    Ruling.COMPLY: "Allowed",
    Ruling.SAFE_COMPLETE: "To be answered with care",
    Ruling.REFUSE: "Not allowed",
}

_WORD = re.compile(r"\S+")
_OPENING = re.compile(
    r"(?:(?:please|hey|hi|ok|so|how|what|why|when|where|which|who|is|are|do|does|did|can|could|should|would|will|"
    r"i|you|me|my|the|a|an|some|to|tell|give|write|explain|describe|help|it|there|that|of|for|in)\b\W*)+",
    re.IGNORECASE,
)


def completion_text(thinking: str, answer: str) -> str:
    """The assistant's turn as the model has to write it."""
    return f"<think>\n{thinking.strip()}\n</think>\n\n{answer.strip()}"


def quoted_words(clause: Clause, ruling: Ruling) -> str:
    """The first words of the clause, or of its exception where the ruling comes from one.

    Cut at a comma or colon where one stands near the end, so that the quotation reads whole.
    """
    text = clause.text if clause.ruling is ruling or not clause.exceptions else clause.exceptions[0]
    words = _WORD.findall(text)
    if len(words) <= QUOTE_WORDS + 2:
        return text.rstrip(".")
    for length in range(QUOTE_WORDS + 1, 3, -1):
        if words[length - 1][-1] in ",:;":
            return " ".join(words[:length]).rstrip(",:;")
    return " ".join(words[:QUOTE_WORDS]).rstrip(",:;")


def scaffolded_thinking(
    asked: str, ruling: Ruling, clause: Clause | None, decisive: str = "", variant: str = "plain"
) -> str:
    """A thinking in the learnt form.

    The clause's words come before its id: a small model finds the id from the words, and chose ids at random
    where it had to name them first (docs/log.md).

    Args:
        asked: One sentence, what is asked.
        ruling: The decision.
        clause: The clause that decides; None where none does.
        decisive: Words of the request that make the difference.
        variant: The variant of the prompt, see :data:`training.variants.NOTES`.
    """
    parts = [NOTES.get(variant, ""), asked.strip()]
    if decisive:
        parts.append(f'What decides: "{decisive}".')
    parts.append(f"{quoted_words(clause, ruling)} [{clause.id}]" if clause else NO_CLAUSE)
    return f"{' '.join(part for part in parts if part)}\n{write_verdict(ruling)}"


def gist(text: str) -> str:
    """The words of a request that say what it is about, copied from it.

    >>> gist("How do I keep my sourdough alive over a long holiday in the mountains?")
    'keep my sourdough alive over a long holiday in'
    """
    line = " ".join(text.split()).replace('"', "'")
    opening = _OPENING.match(line)
    rest = line[opening.end() :] if opening else line
    words = _WORD.findall(rest if len(rest.split()) > 1 else line)
    return " ".join(words[:GIST_WORDS]).strip(".,;:!?'")


def written_thinking(text: str, ruling: Ruling, clause: Clause | None, variant: str = "plain") -> str:
    """A thinking made from labels alone, its finding first.

    A small model trained to decide at once was right on 0.80 of the held-out pairs after one epoch, and on
    0.68 after three where words of the request and the clause had to be written before (docs/log.md).

    Args:
        text: The request, for the words that the thinking repeats.
        ruling: The decision.
        clause: The clause that decides; None where none does.
        variant: The variant of the prompt, see :data:`training.variants.NOTES`.
    """
    grounds = f"{quoted_words(clause, ruling)} [{clause.id}]." if clause else NO_CLAUSE
    parts = (NOTES.get(variant, ""), f"{FINDINGS[ruling]}: {grounds}", f'The request: "{gist(text)}"')
    return f"{' '.join(part for part in parts if part)}\n{write_verdict(ruling)}"


_FINDING = re.compile(rf"\A\s*(?:{'|'.join(FINDINGS.values())}):")


def without_finding(text: str) -> str:
    """Words of a thinking without the finding that they begin with.

    >>> without_finding("Not allowed: Plan or give attack detail")
    'Plan or give attack detail'
    """
    return _FINDING.sub("", text).strip()


_FORM = re.compile(
    "|".join(
        [
            r"(?i:<think|</think|decision:|the request:)",
            *(rf"\b{re.escape(finding)}:" for finding in FINDINGS.values()),
            *(f"(?i:{re.escape(text.rstrip('.'))})" for text in (NO_CLAUSE, *NOTES.values()) if text),
        ]
    )
)


def shows_deliberation(answer: str) -> bool:
    """Whether an answer carries parts of a deliberation: a finding, a clause's id, a verdict line.

    >>> shows_deliberation("Allowed: Explain law [IL1]."), shows_deliberation("They are allowed: two.")
    (True, False)
    """
    return _FORM.search(answer) is not None or any(True for _ in find_mentions(answer))


class Decision(NamedTuple):
    """Where a written thinking decides, in characters of the completion."""

    finding: int
    """The beginning of the finding."""
    clause: range
    """The words of the clause that it rests on, or those that say that there is none."""


def decision_in(completion: str, ruling: Ruling | None) -> Decision | None:
    r"""Where a written thinking decides; None where it is none.

    >>> decision_in("<think>\nNot allowed: Help to steal [IL5].", Ruling.REFUSE)
    Decision(finding=8, clause=range(21, 35))
    """
    found = re.search(rf"{FINDINGS[ruling]}: ([^\[.]*)", completion) if ruling else None
    return Decision(found.start(), range(*found.span(1))) if found else None
