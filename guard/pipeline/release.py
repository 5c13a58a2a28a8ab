"""What of an answer may be released: up to the client's stop sequences and token limit."""

from __future__ import annotations

from collections.abc import Iterator

from guard.pipeline.events import AnswerText, Event, ToolCalls
from guard.pipeline.probabilities import Token, TokenAligner
from guard.pipeline.reading import Piece
from guard.pipeline.stop import StopCutter
from guard.pipeline.tools import CallNamer


class Release:
    """Applies the client's stop sequences and token limit to the visible answer."""

    def __init__(
        self, stop: tuple[str, ...], max_tokens: int | None, calls: CallNamer, *, probabilities: bool = False
    ) -> None:
        """Nothing has come yet.

        Args:
            stop: The client's stop sequences.
            max_tokens: Tokens of the answer at most; None for no limit.
            calls: Makes tool calls fit for clients.
            probabilities: Whether the tokens of the answer are told with it.
        """
        self.calls = calls
        self._cutter = StopCutter(stop)
        self._aligner = TokenAligner() if probabilities else None
        self._max_tokens = max_tokens
        self._tokens = 0
        self.over = ""
        """The finish reason, once the answer is cut."""
        self.stopped_at: str | None = None
        """The stop sequence that cut it."""

    def take(self, piece: Piece) -> Iterator[Event]:
        """The events of a piece that may be released."""
        if self._aligner and piece.probabilities:
            self._aligner.add(piece.probabilities, piece.answer)
        text = self._cutter.feed(piece.answer) if piece.answer else ""
        if text:
            yield AnswerText(text, self._told_of(text))
        if piece.tools and not self._cutter.hit and (named := self.calls.take(piece.tools)):
            yield ToolCalls(named)
        self._tokens += piece.tokens
        if self._cutter.hit:
            self.over, self.stopped_at = "stop", self._cutter.found
        elif self._max_tokens is not None and self._tokens >= self._max_tokens:
            self.over = "length"

    def rest(self) -> AnswerText | None:
        """Text that was held back as a possible stop sequence."""
        held = self._cutter.close()
        return AnswerText(held, self._told_of(held)) if held else None

    def _told_of(self, text: str) -> list[Token] | None:
        return self._aligner.take(text) if self._aligner else None
