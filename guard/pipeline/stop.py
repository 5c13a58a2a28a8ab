"""Cut an answer at the client's stop sequences.

The engine never sees them, so that they cannot end the thinking and some engines ignore them.
"""

from __future__ import annotations


class StopCutter:
    """Feeds text through until a stop sequence completes; the sequence itself is not released."""

    def __init__(self, sequences: tuple[str, ...]) -> None:
        """Cut at whichever of these is complete first; none means that everything passes."""
        self._sequences = tuple(filter(None, sequences))
        self._held = ""
        self.found = ""
        """The sequence that cut the text; empty while none has."""

    @property
    def hit(self) -> bool:
        """Whether the text was cut."""
        return bool(self.found)

    def feed(self, text: str) -> str:
        """What may be released now; sets ``found`` when a sequence is complete."""
        if not self._sequences or self.hit:
            return "" if self.hit else text
        text = self._held + text
        ends = [(at + len(s), at, s) for s in self._sequences if (at := text.find(s)) >= 0]
        if ends:  # of several, the first to be complete: that does not depend on how the text is split
            _, at, self.found = min(ends)
            self._held = ""
            return text[:at]
        keep = max(_overlap(text, sequence) for sequence in self._sequences)
        self._held = text[len(text) - keep :] if keep else ""
        return text[: len(text) - keep] if keep else text

    def close(self) -> str:
        """What was held back and turned out to be no stop sequence."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, sequence: str) -> int:
    """Length of the longest end of ``text`` that begins ``sequence``."""
    for size in range(min(len(text), len(sequence) - 1), 0, -1):
        if text.endswith(sequence[:size]):
            return size
    return 0
