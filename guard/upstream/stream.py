"""One streamed chat completion: its checked chunks as they arrive, each read before its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from guard.errors import UpstreamError
from guard.upstream.chunks import ChunkReader, bad_answer, completion_chunk
from guard.upstream.text_runs import Chunk, TextRun
from guard.upstream.wire import Response, drain, read, read_all


class ChunkStream:
    """Read it to its end, or close it to stop the engine; closing it is right in any case."""

    def __init__(self, response: Response, first_byte: float, last: float, idle_timeout: float) -> None:
        """Nothing is read yet.

        Args:
            response: Its head is there and says 200.
            first_byte: When the first token has to be there, as the loop's clock has it.
            last: When the whole answer has to be there.
            idle_timeout: Seconds between two reads from then on.
        """
        self._response = response
        self._kind = response.headers.get("Content-Type", "")
        self._first_byte = self._deadline = first_byte
        self._last = last
        self._idle_timeout = idle_timeout
        self._reader = ChunkReader()
        self._fault: UpstreamError | None = None
        """What was wrong after the chunks that were given last."""
        self._ended = False

    async def read(self) -> list[Chunk | TextRun]:
        """The chunks that arrive next, those that only go on with a text as one run; none at the end.

        Raises:
            UpstreamTimeout: One of the deadlines has passed.
            UpstreamError: Everything else that keeps the answer from being whole; the chunks that
                arrived before the fault were given first.
        """
        while not (self._fault or self._ended):
            chunks, self._fault = _until_fault(await self._arriving())
            self._deadline = self._next_deadline()
            if chunks:
                return chunks
        if self._fault:
            raise self._fault
        return []

    def close(self) -> None:
        """Drop the connection, unless the body was read to its end."""
        self._response.close()

    async def _arriving(self) -> Iterator[Chunk | TextRun]:
        reader = self._reader
        if not self._kind.startswith("text/event-stream"):
            self._ended = True
            return iter([await self._whole()])
        if reader.done:
            await drain(self._response)
        elif data := await read(self._response, self._deadline):
            return reader.feed(data)
        self._ended = True
        return reader.finish()

    def _next_deadline(self) -> float:
        """Of the read after one that has brought something."""
        deadline = min(asyncio.get_running_loop().time() + self._idle_timeout, self._last)
        return deadline if self._reader.begun else max(deadline, self._first_byte)

    async def _whole(self) -> Chunk:
        """The chunk of an engine that answers a request for a stream with one JSON object."""
        if not self._kind.startswith("application/json"):
            raise bad_answer(f"the engine answered with content type {self._kind!r}")
        chunk = self._reader.check(completion_chunk(await read_all(self._response, self._last)))
        for _ in self._reader.finish():
            pass
        return chunk


def _until_fault(
    chunks: Iterator[Chunk | TextRun],
) -> tuple[list[Chunk | TextRun], UpstreamError | None]:
    """The chunks up to the first that is none, and what was wrong with it."""
    good: list[Chunk | TextRun] = []
    try:
        for chunk in chunks:
            good.append(chunk)
    except UpstreamError as fault:
        return good, fault
    return good, None
