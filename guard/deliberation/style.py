"""How an answer reads: a refusal, help with a part held back, or an answer.

Opening phrases decide, because they cost microseconds on the path of every answer. They are evidence
for the record, not a grade: `training evaluate` grades with a measured classifier.
"""

from __future__ import annotations

import re
from enum import StrEnum

from guard.policy.model import Ruling

OPENING_CHARACTERS = 200
"""A refusal says so at the beginning; what a long answer says later is not one."""

_NOT = (
    r"(?:can'?t|can ?not|won't|will not|(?:am|'m) (?:unable|not able) to|must decline to|"
    r"(?:have|need) to decline to)"
)
_HELP = (
    r"(?:help|assist|provide|do (?:that|this)|support|give|offer|share|write|create|generate|produce|"
    r"discuss|answer|comply|fulfil+|engage|explain|describe|tell|advise|recommend|continue|participate|"
    r"condone|encourage|promote|facilitate|translate|make)"
)
_REFUSAL = re.compile(
    rf"\bI ?{_NOT} (?:\w+ ){{0,2}}?{_HELP}\b"
    rf"|\bI(?:'m| am) (?:sorry|afraid)[^.!?\n]{{0,60}}\b{_NOT}"
    r"|\bcan(?:no|')?t (?:help|assist) (?:you )?with (?:that|this|it)\b"
    r"|\b(?:I|we) (?:must |have to |need to )?(?:respectfully )?decline\b"
    r"|\bas an (?:ai|artificial intelligence)[^.!?\n]{0,60}\b(?:can(?:no|')?t|unable|not able|do not|don't)\b"
    r"|\bit (?:is|would be)(?: not|n't) (?:appropriate|ethical|legal|right|ok|okay|acceptable)\b"
    r"|\bI (?:do not|don't) (?:feel comfortable|condone|support|encourage)\b",
    re.IGNORECASE,
)
_HELD_BACK = re.compile(
    r"\b(?:instead|what I can (?:do|say|offer)|I can (?:help|tell|explain|share|offer|suggest)|"
    r"happy to help with|safer|crisis (?:line|text)|hotline|helpline|emergency (?:number|services)|"
    r"(?:see|talk to|speak (?:to|with)|consult|ask) (?:a|an|your) (?:doctor|pharmacist|lawyer|solicitor|"
    r"therapist|counsellor|counselor|professional|adviser|advisor|accountant))",
    re.IGNORECASE,
)


class AnswerStyle(StrEnum):
    """The style of an answer as its text shows it."""

    ANSWER = "answer"
    PARTIAL = "partial"
    """Helps, and holds something back or points to help."""
    REFUSAL = "refusal"
    EMPTY = "empty"


AGREES: dict[Ruling, frozenset[AnswerStyle]] = {
    Ruling.COMPLY: frozenset({AnswerStyle.ANSWER, AnswerStyle.PARTIAL}),
    Ruling.SAFE_COMPLETE: frozenset({AnswerStyle.ANSWER, AnswerStyle.PARTIAL}),
    Ruling.REFUSE: frozenset({AnswerStyle.REFUSAL}),
}
"""Which styles do what a verdict says. A safe completion and an answer differ in what they leave out,
which opening phrases cannot show, so the two are not held against each other."""


def answer_style(answer: str) -> AnswerStyle:
    """The style of an answer's opening.

    >>> answer_style("I'm sorry, but I can't help with that.")
    <AnswerStyle.REFUSAL: 'refusal'>
    """
    opening = answer.strip()[:OPENING_CHARACTERS].replace("’", "'")
    if not opening:
        return AnswerStyle.EMPTY
    if _REFUSAL.search(opening):
        return AnswerStyle.REFUSAL
    if _HELD_BACK.search(answer[:2000]):
        return AnswerStyle.PARTIAL
    return AnswerStyle.ANSWER


def agrees(verdict: Ruling | None, style: AnswerStyle) -> bool | None:
    """Whether an answer does what the verdict says; None where there is nothing to compare."""
    if verdict is None or style is AnswerStyle.EMPTY:
        return None
    return style in AGREES[verdict]
