"""What the engine says in one attempt of a choice: two calls where a grammar would silence the thinking."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from guard.pipeline.calls import answer_call, continued_call, thinking_call
from guard.pipeline.exchange import Constrained, EngineProfile, Prepared
from guard.pipeline.notes import Notes
from guard.pipeline.reading import CallReader, Piece
from guard.upstream.text_runs import Chunk, TextRun


class ChatStream(Protocol):
    """An answer that arrives."""

    async def read(self) -> list[Chunk | TextRun]:
        """The chunks that arrive next, together; none at the end."""

    def close(self) -> None:
        """Stop the engine's work, where it is not done."""


class ChatEngine(Protocol):
    """What the pipeline asks of an engine."""

    async def stream(self, body: Mapping[str, Any]) -> ChatStream:
        """Send a chat completion request."""


class Turn:
    """Gives its pieces once, with ``async for``; close it to stop the engine."""

    def __init__(
        self, prepared: Prepared, profile: EngineProfile, engine: ChatEngine, notes: Notes, reminder: str
    ) -> None:
        """Set up; nothing is called yet.

        Args:
            prepared: The exchange with its prompt.
            profile: What the engine can do.
            engine: Answers the calls.
            notes: Gets usage and finish reason of each call as it ends; its thinking is what a second call
                goes on from.
            reminder: What a retry adds to the prompt; empty for a first attempt.
        """
        self._prepared = prepared
        self._exchange = prepared.exchange
        self._profile = profile
        self._engine = engine
        self._notes = notes
        self._reminder = reminder
        self._bodies = self._calls()
        self._only_thinking = False
        """The call is ended where its answer begins."""
        self._opened = profile.thinking_opened
        self._stream: ChatStream | None = None
        self._reader: CallReader | None = None
        """Of the call that runs, like the stream."""
        self._thought = 0
        self._pieces: deque[Piece] = deque()
        """Read, and not given yet."""
        self.exhausted = False
        """The first of two calls used up the thinking's budget."""

    def __aiter__(self) -> Turn:
        """Thinking, answer and tool calls as they come."""
        return self

    async def __anext__(self) -> Piece:
        """The next piece.

        Raises:
            ApiError: The engine failed.
        """
        while not self._pieces:
            if self._stream is None or self._reader is None:
                body = next(self._bodies, None)
                if body is None:
                    raise StopAsyncIteration
                self._reader = self._new_reader()
                self._stream = await self._engine.stream(body)
            self._take(self._reader, await self._stream.read())
        return self._pieces.popleft()

    def close(self) -> None:
        """End the call that runs, if one does."""
        stream, reader = self._stream, self._reader
        self._stream = self._reader = None
        if reader is not None:
            self._notes.calls.append(reader.final_usage())
        if stream is not None:
            stream.close()

    def _calls(self) -> Iterator[dict[str, Any]]:
        """The body of each call, made when all of the one before was given."""
        prepared, profile, notes = self._prepared, self._profile, self._notes
        two = self._exchange.constraint and profile.constrained is not Constrained.AFTER_THINKING
        if not (two or self._exchange.decision_only):
            yield answer_call(prepared, profile, notes.index, self._reminder)
            return
        self._only_thinking = True
        body = thinking_call(prepared, profile, notes.index, self._reminder)
        yield body
        if not self._exchange.decision_only:
            self._only_thinking = self._opened = False
            self.exhausted = notes.finish_reason == "length"
            yield continued_call(body, prepared, profile, notes.thinking)

    def _new_reader(self) -> CallReader:
        counted = self._exchange.max_tokens is not None or self._profile.answer_tokens is not None
        joining = not (counted or self._exchange.probabilities)
        self._thought = 0
        return CallReader(thinking_opened=self._opened, joining=joining)

    def _take(self, reader: CallReader, batch: list[Chunk | TextRun]) -> None:
        """Keep the pieces of what has come, up to where the call is ended."""
        for piece in reader.read_batch(batch) if batch else (reader.close(),):
            if self._only_thinking and (piece.answer or piece.tools):
                self._pieces.append(Piece(piece.thinking))
                self._end("stop")
                return
            self._pieces.append(piece)
            if piece.thinking and not piece.answer:
                self._thought += piece.tokens
                if self._thought > self._profile.thinking_tokens:
                    self._end("length")
                    return
        if not batch:
            self._end(reader.finish_reason)

    def _end(self, reason: str) -> None:
        self._notes.finish_reason = reason
        self.close()
