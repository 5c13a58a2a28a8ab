"""The verdict of a thinking: its last line ``Decision: comply|safe_complete|refuse``.

Readers are lenient (case, Markdown emphasis, hyphen or space, the word verdict, a last line that only
ends in the decision), writers strict. Where a thinking changes its mind, the last decision counts. A
choice between rulings, as the prompt words it, and a question decide nothing.
"""

from __future__ import annotations

import re

from guard.policy.model import Ruling

_RULING = r"(?:comply|safe[_\s-]?complet(?:e|ion)|refuse)"
_MARKER = r"(?:decision|verdict)[*_\s]*[:=][\s*_`\"'\[(]*"
_OR = r"[ \t*_`\"'\])]*(?:[,|/][ \t]*(?:or[ \t]+)?|or[ \t]+)[ \t*_`\"'\[(]*"
_DECISION = re.compile(
    rf"(?<![a-z]){_MARKER}(?P<choice>{_RULING}(?:{_OR}(?:{_MARKER})?{_RULING})*)(?![a-z_])", re.IGNORECASE
)
_ONE_RULING = re.compile(_RULING, re.IGNORECASE)
_LINE_START = re.compile(
    r"[\s>*_#\d.)-]*(?:(?:so|thus|therefore|hence|my|the),?\s+)?(?:final\s+)?", re.IGNORECASE
)
_LINE_START_CHARACTERS = 40
_REST = re.compile(r"[\s\])*_`\"'.!]*\Z")
_QUESTION = re.compile(r"[\])*_`\"']*\s*\?")


def read_verdict(thinking: str) -> Ruling | None:
    r"""The decision that a thinking ends on, or None where it takes none.

    >>> read_verdict("Sums harm nobody.\nDecision: comply")
    <Ruling.COMPLY: 'comply'>
    """
    verdict = None
    for match in _DECISION.finditer(thinking):
        rulings = _ONE_RULING.findall(match["choice"])
        if len(rulings) > 1 or _QUESTION.match(thinking, match.end()):
            continue
        if _begins_line(thinking, match.start()) or _REST.match(thinking, match.end()):
            word = rulings[0].lower()
            verdict = Ruling.SAFE_COMPLETE if word.startswith("safe") else Ruling(word)
    return verdict


def _begins_line(thinking: str, at: int) -> bool:
    start = max(at - _LINE_START_CHARACTERS, 0)
    newline = thinking.rfind("\n", start, at)
    if newline == -1 and start > 0:
        return False
    return _LINE_START.fullmatch(thinking, newline + 1, at) is not None


def write_verdict(ruling: Ruling) -> str:
    """The line as a thinking must end."""
    return f"Decision: {ruling.value}"
