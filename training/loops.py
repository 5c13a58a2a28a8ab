"""Answers that run in a loop, as small models do under greedy decoding."""

from __future__ import annotations

import re
from collections import Counter

_UNIT = re.compile(r"(?=.{0,23}[^\W_])(.{2,24}?)\1{4,}", re.DOTALL)
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
_FIGURES = re.compile(r"[\d,\s]+")
_CODE = re.compile(r"```.*?(?:```|\Z)|^(?: {4}|\t)[^\n]*", re.DOTALL | re.MULTILINE)
_SENTENCE_END = re.compile(r"\n|(?<=[.!?])\s")
_LEAST_FIGURES = 24
"""Characters: longer than the numbers that people write out."""
_LEAST_SENTENCE = 12
_LEAST_TIMES = 3


def loops(answer: str) -> bool:
    """Whether a few characters repeat five times in a row, or a sentence stands there three times.

    Rulers, blanks to fill in, indentation and round numbers are no loop, nor is a line that introduces
    something ("For example:") or is code. The bounds were set on the untrained student's answers and checked
    on XSTest's completions (docs/log.md).

    >>> loops("1. **1.1.1.1.1.1.1"), loops("I can help. Can you tell me more? I can help.")
    (True, False)
    """
    if any(_runs_on(found[1], found[0]) for found in _UNIT.finditer(answer)):
        return True
    sentences = (part.strip() for part in _SENTENCE_END.split(_CODE.sub("\n", answer)))
    counts = Counter(s for s in sentences if len(s) >= _LEAST_SENTENCE and not s.endswith(":"))
    return any(times >= _LEAST_TIMES for times in counts.values())


def _runs_on(unit: str, run: str) -> bool:
    """Whether a run of one unit is a loop: it has letters, marked digits, or more figures than a number."""
    if _FIGURES.fullmatch(unit):
        return len(run) >= _LEAST_FIGURES and not unit.isspace()
    return _LETTER_OR_DIGIT.search(unit) is not None
