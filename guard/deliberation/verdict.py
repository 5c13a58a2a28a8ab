"""The verdict of a thinking: its last line ``Decision: comply|safe_complete|refuse``.

Readers are lenient (case, Markdown emphasis, hyphen or space, the word verdict), writers strict.
Where a thinking changes its mind, the last decision counts.
"""

from __future__ import annotations

import re

from guard.policy.model import Ruling

_DECISION = re.compile(
    r"^[\s>*_#\-]*(?:final\s+)?(?:decision|verdict)[*_\s]*[:=][\s*_`\"'\[(]*"
    r"(?P<verdict>comply|safe[_\s-]?complet(?:e|ion)|refuse)(?![a-z_])",
    re.IGNORECASE | re.MULTILINE,
)
_INLINE = re.compile(
    r"\b(?:decision|verdict)\s*[:=]\s*[*_`\"'\[(]*"
    r"(?P<verdict>comply|safe[_\s-]?complet(?:e|ion)|refuse)[\])*_`\"']*[.!]?\s*$",
    re.IGNORECASE,
)


def read_verdict(thinking: str) -> Ruling | None:
    r"""The decision that a thinking ends on, or None where it takes none.

    >>> read_verdict("Sums harm nobody.\nDecision: comply")
    <Ruling.COMPLY: 'comply'>
    """
    decisions = list(_DECISION.finditer(thinking))
    found = decisions[-1] if decisions else _INLINE.search(thinking.rstrip())
    if found is None:
        return None
    word = found["verdict"].lower()
    return Ruling.SAFE_COMPLETE if word.startswith("safe") else Ruling(word)


def write_verdict(ruling: Ruling) -> str:
    """The line as a thinking must end."""
    return f"Decision: {ruling.value}"
