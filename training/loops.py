"""Answers that run in a loop, as small models do under greedy decoding."""

from __future__ import annotations

import re
from collections import Counter

_UNIT = re.compile(r"(?=.{0,23}\w)(.{2,24}?)\1{4,}", re.DOTALL)
_SENTENCE_END = re.compile(r"\n|(?<=[.!?])\s")
_LEAST_SENTENCE = 12
_LEAST_TIMES = 3


def loops(answer: str) -> bool:
    """Whether a few characters repeat five times in a row, or a sentence stands there three times.

    Rulers and indentation are no loop, nor is a line that introduces something ("For example:"). The bounds
    were set on the untrained student's answers and checked on XSTest's completions (docs/log.md).

    >>> loops("1. **1.1.1.1.1.1.1"), loops("I can help. Can you tell me more? I can help.")
    (True, False)
    """
    if any(re.search(r"\w", unit[1]) for unit in _UNIT.finditer(answer)):
        return True
    sentences = (part.strip() for part in _SENTENCE_END.split(answer))
    counts = Counter(s for s in sentences if len(s) >= _LEAST_SENTENCE and not s.endswith(":"))
    return any(times >= _LEAST_TIMES for times in counts.values())
