"""Run the choices of an exchange for one HTTP request: gathered whole, or streamed as they come.

Endpoints differ in how an answer is written, not in how it is run; each gives a writer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
from starlette.types import Message, Receive, Scope, Send

from guard.api.disconnect import WhileConnected
from guard.api.errors import reasons, unrecorded
from guard.errors import ApiError, AuditError
from guard.pipeline.events import (
    AnswerText,
    ClientLeft,
    Decided,
    Event,
    Finished,
    ThinkingText,
    ToolCalls,
)
from guard.pipeline.exchange import Prepared
from guard.pipeline.notes import join_tool_calls
from guard.pipeline.pipeline import Pipeline

log = structlog.get_logger(__name__)

_PING = b": ping\n\n"
_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


@dataclass(slots=True)
class Gathered:
    """One choice, gathered from its events."""

    thinking: list[str] = field(default_factory=list)
    answer: list[str] = field(default_factory=list)
    probabilities: list[list[dict[str, Any]] | None] = field(default_factory=list)
    """Of each piece of the answer."""
    tools: list[dict[str, Any]] = field(default_factory=list)
    decided: Decided | None = None
    finished: Finished | None = None

    async def take(self, event: Event) -> None:
        """As ``add``, for a pipeline to tell."""
        self.add(event)

    def add(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case ThinkingText(text):
                self.thinking.append(text)
            case AnswerText(text, probabilities):
                self.answer.append(text)
                self.probabilities.append(probabilities)
            case ToolCalls(deltas):
                join_tool_calls(self.tools, deltas)
            case Decided():
                self.decided = event
            case Finished():
                self.finished = event


class StreamWriter(Protocol):
    """Writes one stream in an API's own terms."""

    def frames(self, index: int, event: Event) -> bytes:
        """The server-sent events for one event of a choice; empty where nothing is shown."""

    def end(self) -> bytes:
        """What closes the stream after the last choice."""

    def failed(self, error: ApiError) -> bytes:
        """What closes the stream when an error comes after its beginning."""


def guard_headers(prepared: Prepared) -> dict[str, str]:
    """What every answer under a policy says of itself."""
    policy, request_id = prepared.snapshot.policy, prepared.exchange.request_id
    anthropic = prepared.exchange.endpoint == "messages"
    headers = {
        "x-guard-request-id": request_id,
        "request-id" if anthropic else "x-request-id": request_id,  # where the API's own clients look for it
        "x-guard-policy": f"{policy.name}@{policy.digest[:12]}",
    }
    if prepared.not_applied:
        headers["x-guard-not-applied"] = ", ".join(prepared.not_applied)
    return headers


def decision(decided: Decided | None) -> str:
    """The value of ``x-guard-decision`` for one choice."""
    if decided is None:
        return "none"
    if decided.refused:
        return "refuse"
    return decided.deliberation.verdict.value if decided.deliberation.verdict else "none"


class WholeAnswer:
    """An answer that is sent when it is complete."""

    def __init__(
        self,
        pipeline: Pipeline,
        prepared: Prepared,
        write: Callable[[list[Gathered]], bytes],
        *,
        further: Sequence[Prepared] = (),
        at_once: int | None = None,
        keep: Callable[[list[Gathered]], Awaitable[None]] | None = None,
    ) -> None:
        """Nothing runs before the response is sent.

        Args:
            pipeline: Runs the choices.
            prepared: The exchange.
            write: Makes the JSON body of all choices, in order.
            further: Exchanges of the same request after the first; their choices follow its own.
            at_once: Choices that run side by side; all of them when left out.
            keep: Called with all choices before they are written.
        """
        self._pipeline = pipeline
        self._prepared = prepared
        self._write = write
        self._runs = _numbered([prepared, *further])
        self._slots = asyncio.Semaphore(at_once) if at_once else nullcontext()
        self._keep = keep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run all choices, then answer; stop when the client leaves."""
        runs = [self._gather(prepared, index) for index, prepared in self._runs]
        try:
            async with WhileConnected(receive):
                choices = [await runs[0]] if len(runs) == 1 else await _all(runs)
        except ClientLeft:
            return
        if self._keep is not None:
            await self._keep(choices)
        headers = guard_headers(self._prepared)
        headers["x-guard-decision"] = ", ".join(decision(choice.decided) for choice in choices)
        body = self._write(choices)
        headers |= {"content-type": "application/json", "content-length": str(len(body))}
        with suppress(OSError):  # so ASGI says since 2.4 that the client has left
            await send(_start(headers))
            await send({"type": "http.response.body", "body": body})

    async def _gather(self, prepared: Prepared, index: int) -> Gathered:
        choice = Gathered()
        async with self._slots:
            await self._pipeline.run(prepared, index, choice.take)
        return choice


def _start(headers: dict[str, str]) -> Message:
    """What an answer begins with, as ASGI has it."""
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": 200, "headers": encoded}


def _numbered(exchanges: Iterable[Prepared]) -> list[tuple[int, Prepared]]:
    """Every choice of a request with the number it has in the answer and in its record."""
    choices = (prepared for prepared in exchanges for _ in range(prepared.exchange.choices))
    return list(enumerate(choices))


async def _all(runs: list[Coroutine[Any, Any, Gathered]]) -> list[Gathered]:
    """Every choice to its end; then the first failure, if any, is the answer."""
    results = await asyncio.gather(*runs, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if isinstance(result, Gathered)]


class StreamedAnswer:
    """An answer as server-sent events, with pings while there is nothing to show."""

    def __init__(
        self,
        pipeline: Pipeline,
        prepared: Prepared,
        writer: StreamWriter,
        ping_seconds: float,
        *,
        further: Sequence[Prepared] = (),
        ping: Callable[[], bytes] = lambda: _PING,
        keep: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Nothing runs before the response is sent.

        Args:
            pipeline: Runs the choices.
            prepared: The exchange.
            writer: Writes events in the API's terms.
            ping_seconds: Seconds of silence after which a ping is sent.
            further: Exchanges of the same request after the first; their choices follow its own.
            ping: Gives what is sent then; a comment where the API has nothing of its own.
            keep: Called after the last event, before what closes the stream is written.
        """
        self._pipeline = pipeline
        self._runs = _numbered([prepared, *further])
        self._writer = writer
        self._ping_seconds = ping_seconds
        self._next_ping = ping
        self._keep = keep
        self._headers = {**guard_headers(prepared), **_STREAM_HEADERS}
        self._started = False
        self._silent = True
        """Nothing was sent since the last tick."""
        self._writing = asyncio.Lock()
        """Pings come from another task, and a server may let a sender wait: first come, first sent."""
        self._ended = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Relay the choices' events as they come; stop when the client leaves."""
        self._send = send
        with suppress(ClientLeft):
            try:
                async with WhileConnected(receive, every=self._ping_seconds, tick=self._ping):
                    await self._run_all()
                    if self._keep is not None:
                        await self._keep()
                    await self._write(self._writer.end(), last=True)
            except (ApiError, AuditError) as error:
                if not self._started:
                    raise
                told = error if isinstance(error, ApiError) else unrecorded(error)
                log.warning("stream failed", code=told.code, reason=" | ".join(reasons(told)))
                await self._write(self._writer.failed(told), last=True)

    async def _run_all(self) -> None:
        """All choices side by side; the first that fails ends the others."""
        if len(self._runs) == 1:
            await self._run(*self._runs[0])
            return
        tasks = [asyncio.create_task(self._run(index, prepared)) for index, prepared in self._runs]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, index: int, prepared: Prepared) -> None:
        async def relay(event: Event) -> None:
            if isinstance(event, Decided) and len(self._runs) == 1:
                self._headers["x-guard-decision"] = decision(event)
            frames = self._writer.frames(index, event)
            if frames:
                await self._write(frames)

        await self._pipeline.run(prepared, index, relay)

    async def _ping(self) -> None:
        if self._silent:
            await self._write(self._next_ping())
        self._silent = True

    async def _write(self, data: bytes, *, last: bool = False) -> None:
        self._silent = False
        async with self._writing:
            if self._ended:
                return
            self._ended = last
            try:
                if not self._started:
                    self._started = True
                    await self._send(_start(self._headers))
                await self._send({"type": "http.response.body", "body": data, "more_body": not last})
            except OSError as error:  # so ASGI says since 2.4 that the client has left
                raise ClientLeft from error
