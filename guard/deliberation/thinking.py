"""Tell thinking from answer in a stream of text, split anywhere.

An engine without a reasoning parser sends the thinking inside the content, between ``<think>`` and
``</think>``. Some chat templates open the thinking in the prompt, so that the text begins inside
it. The splitter takes pieces as they come and holds back only what may still become a tag.
"""

from __future__ import annotations

import re
from typing import NamedTuple

OPENING = ("<think>", "<thinking>")
CLOSING = ("</think>", "</thinking>")

_OPEN = re.compile("|".join(OPENING), re.IGNORECASE)
_CLOSE = re.compile("|".join(CLOSING), re.IGNORECASE)
_LONGEST = max(map(len, (*OPENING, *CLOSING)))


class Split(NamedTuple):
    """What one piece of text brought."""

    thinking: str = ""
    answer: str = ""


class ThinkingSplitter:
    """Splits one completion; feed it pieces in order, then close it.

    A thinking may open at the very beginning (white space aside), or later at the beginning of a
    line, so that a model that goes back to thinking after its answer shows none of it. A tag in
    the middle of a line is text. White space between the thinking and the answer is dropped; that
    of an answer without thinking is the model's own.
    """

    def __init__(self, *, opened: bool = False) -> None:
        """Start outside the thinking, or inside where the prompt has ``opened`` it."""
        self._inside = opened
        self._opened = opened
        self._held = ""
        self._blank = True
        """No answer text yet: white space is held back, a tag may open."""
        self._line_start = True
        self.thought = False
        """A thinking was begun and closed."""

    @property
    def inside(self) -> bool:
        """Whether the text so far ends inside a thinking."""
        return self._inside

    @property
    def begun(self) -> bool:
        """Whether any thinking was begun, by the prompt or by a tag."""
        return self._opened

    def feed(self, text: str) -> Split:
        """Take the next piece and give what is certain so far."""
        return self._run(self._held + text, final=False)

    def close(self) -> Split:
        """Give what was held back; the text is over."""
        return self._run(self._held, final=True)

    def _run(self, text: str, *, final: bool) -> Split:
        self._held = ""
        thinking: list[str] = []
        answer: list[str] = []
        while text:
            if self._inside:
                text = self._think(text, thinking, final=final)
            else:
                text = self._answer(text, answer, final=final)
        return Split("".join(thinking), "".join(answer))

    def _think(self, text: str, out: list[str], *, final: bool) -> str:
        match = _CLOSE.search(text)
        if match:
            out.append(text[: match.start()])
            self._inside = False
            self.thought = True
            self._line_start = True
            return text[match.end() :]
        keep = 0 if final else _partial(text, CLOSING)
        out.append(text[: len(text) - keep])
        self._hold(text, keep)
        return ""

    def _answer(self, text: str, out: list[str], *, final: bool) -> str:
        if self._blank:
            stripped = text.lstrip()
            opening = _OPEN.match(stripped)
            if opening:
                return self._enter(stripped, opening.end())
            if not stripped or (not final and _starts(stripped, OPENING)):
                self._held = "" if final else text
                return ""
            if self._opened:
                text = stripped
            self._blank = False
            self._line_start = False
        return self._show(text, out, final=final)

    def _show(self, text: str, out: list[str], *, final: bool) -> str:
        """Answer text: everything up to a tag at the beginning of a line."""
        start = 0
        while True:
            match = _OPEN.search(text, start)
            if not match:
                break
            before = text[: match.start()].rpartition("\n")
            at_line_start = not before[2].strip() if before[1] else self._line_start
            if at_line_start:
                out.append(text[: match.start()])
                return self._enter(text, match.end())
            start = match.end()
        keep = 0 if final else _partial(text, OPENING)
        shown = text[: len(text) - keep]
        out.append(shown)
        if shown:
            tail = shown.rpartition("\n")
            self._line_start = not tail[2].strip() if tail[1] else False
        self._hold(text, keep)
        return ""

    def _enter(self, text: str, end: int) -> str:
        self._inside = True
        self._opened = True
        return text[end:]

    def _hold(self, text: str, keep: int) -> None:
        self._held = text[len(text) - keep :] if keep else ""


def split_thinking(text: str, *, opened: bool = False) -> Split:
    """Split a whole completion at once.

    >>> split_thinking("<think>Plain sums. Decision: comply</think>Four.")
    Split(thinking='Plain sums. Decision: comply', answer='Four.')
    """
    splitter = ThinkingSplitter(opened=opened)
    first, last = splitter.feed(text), splitter.close()
    return Split(first.thinking + last.thinking, first.answer + last.answer)


def _partial(text: str, tags: tuple[str, ...]) -> int:
    """Length of the longest end of ``text`` that may grow into one of the tags."""
    tail = text[-(_LONGEST - 1) :].lower()
    at = tail.find("<")
    while at != -1:
        if _starts(tail[at:], tags):
            return len(tail) - at
        at = tail.find("<", at + 1)
    return 0


def _starts(text: str, tags: tuple[str, ...]) -> bool:
    """Whether ``text`` is a proper beginning of one of the tags."""
    lowered = text.lower()
    return any(tag != lowered and tag.startswith(lowered) for tag in tags)
