"""What the engine says in one attempt of a choice: two calls where a grammar would silence the thinking."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, closing
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
    """Runs once; notes the usage and the finish reason of its calls as they end."""

    def __init__(
        self, prepared: Prepared, profile: EngineProfile, engine: ChatEngine, notes: Notes, reminder: str
    ) -> None:
        """Set up; nothing is called yet.

        Args:
            prepared: The exchange with its prompt.
            profile: What the engine can do.
            engine: Answers the calls.
            notes: Gets usage and finish reason; its thinking is what a second call goes on from.
            reminder: What a retry adds to the prompt; empty for a first attempt.
        """
        self._prepared = prepared
        self._exchange = prepared.exchange
        self._profile = profile
        self._engine = engine
        self._notes = notes
        self._reminder = reminder
        self.exhausted = False
        """The first of two calls used up the thinking's budget."""

    def pieces(self) -> AsyncGenerator[Piece, None]:
        """Thinking, answer and tool calls as they come; close it to stop the engine.

        Raises:
            ApiError: The engine failed.
        """
        prepared, profile = self._prepared, self._profile
        if self._exchange.decision_only:
            return self._thinking(thinking_call(prepared, profile, self._notes.index, self._reminder))
        if self._exchange.constraint and profile.constrained is not Constrained.AFTER_THINKING:
            return self._two_calls()
        body = answer_call(prepared, profile, self._notes.index, self._reminder)
        return self._read(body, thinking_opened=profile.thinking_opened)

    async def _two_calls(self) -> AsyncGenerator[Piece, None]:
        """A thinking, then its continuation under the grammar."""
        prepared, profile = self._prepared, self._profile
        body = thinking_call(prepared, profile, self._notes.index, self._reminder)
        async with aclosing(self._thinking(body)) as pieces:
            async for piece in pieces:
                yield piece
        self.exhausted = self._notes.finish_reason == "length"
        body = continued_call(body, prepared, profile, self._notes.thinking)
        async with aclosing(self._read(body, thinking_opened=False)) as pieces:
            async for piece in pieces:
                yield piece

    async def _thinking(self, body: dict[str, Any]) -> AsyncGenerator[Piece, None]:
        """The thinking of one engine call, which is closed where its answer begins."""
        async with aclosing(self._read(body, thinking_opened=self._profile.thinking_opened)) as pieces:
            async for piece in pieces:
                if piece.thinking:
                    yield Piece(piece.thinking)
                if piece.answer or piece.tools:
                    self._notes.finish_reason = "stop"
                    return

    async def _read(self, body: dict[str, Any], *, thinking_opened: bool) -> AsyncGenerator[Piece, None]:
        """One engine call, read; a thinking over its budget ends it."""
        notes = self._notes
        counted = self._exchange.max_tokens is not None or self._profile.answer_tokens is not None
        joining = not (counted or self._exchange.probabilities)
        reader = CallReader(thinking_opened=thinking_opened, joining=joining)
        thought = 0
        try:
            with closing(await self._engine.stream(body)) as stream:
                while batch := await stream.read():
                    for piece in reader.read_batch(batch):
                        yield piece
                        if piece.thinking and not piece.answer:
                            thought += piece.tokens
                            if thought > self._profile.thinking_tokens:
                                notes.finish_reason = "length"
                                return
            yield reader.close()
            notes.finish_reason = reader.finish_reason
        finally:
            notes.calls.append(reader.final_usage())
