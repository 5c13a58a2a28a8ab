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
REOPENED = re.compile(r"</think(?:ing)?><think(?:ing)?>", re.IGNORECASE | re.ASCII)
"""What stands in a thinking where it ended and another one began."""
REOPENING = "</think><think>"
"""The same, to be written where the tags themselves were not seen."""

_OPEN = re.compile("|".join(OPENING), re.IGNORECASE | re.ASCII)
_CLOSE = re.compile("|".join(CLOSING), re.IGNORECASE | re.ASCII)
_INK = re.compile(r"\S")
_LONGEST = max(map(len, (*OPENING, *CLOSING)))


class Split(NamedTuple):
    """What one piece of text brought."""

    thinking: str = ""
    answer: str = ""


class ThinkingSplitter:
    """Splits one completion; feed it pieces in order, then close it.

    A thinking may open at the very beginning (white space aside), or later at the beginning of a
    line, so that a model that goes back to thinking after its answer shows none of it. Where two
    follow each other before the answer, the tags between them stay in their text (``REOPENED``). A
    tag in the middle of a line is text. White space between the thinking and the answer is dropped;
    that of an answer without thinking is the model's own.
    """

    def __init__(self, *, opened: bool = False) -> None:
        """Start outside the thinking, or inside where the prompt has ``opened`` it."""
        self._inside = opened
        self._opened = opened
        self._held = ""
        self._blank = True
        """No answer text yet: white space is held back, a tag may open."""
        self._line_start = True
        self._closing = ""
        """The tag that closed the last thinking."""
        self._opening = ""
        """The tag that opened it."""
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
        parts = self.parts(text)
        return parts[0] if len(parts) == 1 else _joined(parts)

    def parts(self, text: str) -> list[Split]:
        """The same in order: a new part begins where thinking follows an answer."""
        if not self._held and "<" not in text:  # most pieces: no tag can begin or end in them
            if self._inside:
                return [Split(text, "")]
            if self._blank and text and not text[0].isspace():
                self._blank = self._line_start = False
            if not self._blank:
                self._line_start = self._starts_line(text, 0, len(text))
                return [Split("", text)]
        return self._run(self._held + text, final=False)

    def close(self) -> Split:
        """Give what was held back; the text is over."""
        if not self._held:
            return Split()
        return _joined(self._run(self._held, final=True))

    def _run(self, text: str, *, final: bool) -> list[Split]:
        self._held = ""
        parts: list[Split] = []
        at = 0
        while at < len(text):
            thinking: list[str] = []
            answer: list[str] = []
            while at < len(text) and self._inside:
                at = self._think(text, at, thinking, final=final)
            outside = at < len(text)
            while at < len(text) and not self._inside:
                at = self._answer(text, at, answer, final=final)
            _add(parts, "".join(thinking), "".join(answer))
            if outside and self.inside and self._blank and self._closing:
                _add(parts, self._closing + self._opening, "")
        return parts or [Split()]

    def _think(self, text: str, at: int, out: list[str], *, final: bool) -> int:
        match = _CLOSE.search(text, at)
        if match:
            out.append(text[at : match.start()])
            self._inside = False
            self._closing = match[0]
            self.thought = True
            self._line_start = True
            return match.end()
        end = len(text) if final else len(text) - _partial(text, CLOSING)
        out.append(text[at:end])
        self._held = text[end:]
        return len(text)

    def _answer(self, text: str, at: int, out: list[str], *, final: bool) -> int:
        if self._blank:
            ink = _INK.search(text, at)
            first = ink.start() if ink else len(text)
            opening = _OPEN.match(text, first)
            if opening:
                return self._enter(opening)
            if not final and (not ink or _starts(text[first : first + _LONGEST], OPENING)):
                self._held = text[at:]
                return len(text)
            if self._opened:
                at = first
            self._blank = False
            self._line_start = False
        return self._show(text, at, out, final=final)

    def _show(self, text: str, at: int, out: list[str], *, final: bool) -> int:
        """Answer text: everything up to a tag at the beginning of a line."""
        line = at
        while match := _OPEN.search(text, line):
            if self._starts_line(text, line, match.start()):
                out.append(text[at : match.start()])
                return self._enter(match)
            line = text.find("\n", match.end())  # the rest of this line is text
            if line == -1:
                break
        end = len(text) if final else len(text) - _partial(text, OPENING)
        out.append(text[at:end])
        self._line_start = self._starts_line(text, at, end)
        self._held = text[end:]
        return len(text)

    def _starts_line(self, text: str, start: int, end: int) -> bool:
        """Whether only white space stands between the beginning of the line and ``end``."""
        newline = text.rfind("\n", start, end)
        if newline == -1:
            return self._line_start and not text[start:end].strip()
        return not text[newline:end].strip()

    def _enter(self, tag: re.Match[str]) -> int:
        self._inside = True
        self._opened = True
        self._opening = tag[0]
        return tag.end()


def split_thinking(text: str, *, opened: bool = False) -> Split:
    """Split a whole completion at once.

    >>> split_thinking("<think>Plain sums. Decision: comply</think>Four.")
    Split(thinking='Plain sums. Decision: comply', answer='Four.')
    """
    splitter = ThinkingSplitter(opened=opened)
    first, last = splitter.feed(text), splitter.close()
    return Split(first.thinking + last.thinking, first.answer + last.answer)


def _add(parts: list[Split], thinking: str, answer: str) -> None:
    """Add to the last part, unless thinking would come before an answer that it follows."""
    if parts and not (thinking and parts[-1].answer):
        last = parts.pop()
        parts.append(Split(last.thinking + thinking, last.answer + answer))
    elif thinking or answer:
        parts.append(Split(thinking, answer))


def _joined(parts: list[Split]) -> Split:
    return Split("".join(part.thinking for part in parts), "".join(part.answer for part in parts))


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
