"""The server: one ``asyncio.Protocol`` a connection, nothing of an HTTP library in between."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests.scripted.reply import Halt, Pause, Step
from tests.scripted.request import ReceivedRequest
from tests.scripted.script import Answer, Script


class ScriptedEngine(Script):
    """The server; use it as an async context manager."""

    def __init__(self, *replies: Answer, idle_close: float | None = None) -> None:
        """Prepare a script.

        Args:
            replies: Answers to the first requests, in order of arrival.
            idle_close: Seconds after which an idle kept-alive connection is closed, as vLLM does
                at 5; never when left out.
        """
        super().__init__(*replies)
        self.connections = 0
        """How many connections were ever accepted."""
        self.idle_close = idle_close
        self._open: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def base_url(self) -> str:
        """The address with ``/v1``, as a client would be given it."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._open)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self.port, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Close the listening socket and every connection; a later client is refused.

        Raises:
            Exception: What a reply function raised, so that no fault of a script goes unseen.
        """
        if self._server is None:
            return
        self._server.close()
        tasks = [connection.shut() for connection in tuple(self._open)]
        await asyncio.gather(*(task for task in tasks if task), return_exceptions=True)
        await self._server.wait_closed()
        self._server = None
        await super().stop()

    def attach(self, connection: _Connection) -> None:
        """A connection was made."""
        self._open.add(connection)
        self.connections += 1

    def detach(self, connection: _Connection) -> None:
        """A connection was lost."""
        self._open.discard(connection)


class _Connection(asyncio.Protocol):
    """One client connection: reads requests, plays replies, notices when the client leaves."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self._engine = engine
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._playing: asyncio.Task[None] | None = None
        self._current: ReceivedRequest | None = None
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._engine.attach(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._engine.detach(self)
        if self._idle:
            self._idle.cancel()
        if self._current:
            self._current.disconnected.set()
        if self._playing:
            self._playing.cancel()
        self._transport = None

    def shut(self) -> asyncio.Task[None] | None:
        """Close at once; the task that plays a reply, when one does, for the caller to await."""
        if self._transport:
            self._transport.abort()
        return self._playing

    def _next(self) -> None:
        if self._playing and not self._playing.done():
            return
        request = self._parse()
        if request:
            if self._idle:
                self._idle.cancel()
            self._current = request
            self._playing = asyncio.get_running_loop().create_task(self._play(request))

    def _parse(self) -> ReceivedRequest | None:
        head, blank, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if not blank:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return None
        del self._buffer[: len(head) + 4 + length]
        return ReceivedRequest(method, path, headers, rest[:length])

    async def _play(self, request: ReceivedRequest) -> None:
        try:
            reply = await self._engine.take(request)
        except Exception as error:
            self._engine.failed(error)
            await self._halt(Halt.RESET)
            return
        if not await self._steps(reply.before, chunked=False):
            return
        self._write(reply.head())
        chunked = reply.framing == "chunked"
        if not await self._steps(reply.steps, chunked=chunked):
            return
        if chunked:
            self._write(b"0\r\n\r\n")
        self._current = None
        request.answered.set()
        if self._transport is None:
            return
        if reply.framing == "close":
            self._transport.close()
            return
        loop = asyncio.get_running_loop()
        if self._engine.idle_close is not None:
            self._idle = loop.call_later(self._engine.idle_close, self._transport.close)
        loop.call_soon(self._next)

    async def _steps(self, steps: Sequence[Step], *, chunked: bool) -> bool:
        """Take the steps; False where one of them ended the reply."""
        for step in steps:
            if isinstance(step, bytes):
                if step:
                    self._write(b"%x\r\n%b\r\n" % (len(step), step) if chunked else step)
                await asyncio.sleep(0)
            elif isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
            elif isinstance(step, asyncio.Event):
                await step.wait()
            else:
                await self._halt(step)
                return False
        return True

    async def _halt(self, how: Halt) -> None:
        if how is Halt.STALL:
            await asyncio.Event().wait()
        if self._transport is None:
            return
        self._current = None
        if how is Halt.RESET:
            raw = self._transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            self._transport.close()

    def _write(self, data: bytes) -> None:
        if self._transport:
            self._transport.write(data)
