"""The words in which one side of a pair differs from the other."""

from __future__ import annotations

import difflib
import re

DECISIVE_WORDS = 12
GAP_WORDS = 2
"""Stretches that so few shared words part are one stretch."""
_WORD = re.compile(r"\S+")


def decisive_words(text: str, other: str) -> str:
    """The longest stretch of ``text`` that the other side of its pair has not.

    >>> decisive_words("How do I kill the server process?", "How do I kill the server at table 4?")
    'process'
    """
    words = _WORD.findall(text)
    bare, others = ([w.lower().strip("?.,!") for w in _WORD.findall(t)] for t in (text, other))
    matcher = difflib.SequenceMatcher(None, bare, others, autojunk=False)
    spans: list[tuple[int, int]] = []
    for tag, start, end, _, _ in matcher.get_opcodes():
        if tag not in {"replace", "delete"}:
            continue
        if spans and start - spans[-1][1] <= GAP_WORDS:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    first, last = max(spans, key=lambda span: span[1] - span[0], default=(0, 0))
    return " ".join(words[first:last][:DECISIVE_WORDS]).strip("?.,!;: \"'“”").replace('"', "'")
