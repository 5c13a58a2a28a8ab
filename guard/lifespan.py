"""A server's lifespan messages on their way to a wrapped app, with a start and a stop of our own.

Ours is started when the app has started and stopped before the app stops, so that it can call the app
all its life. An app that takes no lifespan, or leaves it early, is stood in for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from guard.errors import GuardError

log = structlog.get_logger(__name__)


class LifespanRelay:
    """One lifespan; ``run`` it once."""

    def __init__(
        self,
        receive: Receive,
        send: Send,
        start: Callable[[], Awaitable[None]],
        stop: Callable[[], Awaitable[None]],
    ) -> None:
        """Keep the channels.

        Args:
            receive: From the server.
            send: To the server.
            start: Called once the app has started; a ``GuardError`` stops the server's start.
            stop: Called before the app stops, and once more at the end.
        """
        self._from_server = receive
        self._to_server = send
        self._start = start
        self._stop = stop
        self._asked = False
        self._answered = False
        """The server knows how the start went."""
        self._failed = False
        """Ours did not start; the app is only told to stop."""
        self._stopping = False
        self._stopped = False
        """The server knows how the stop went."""

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Relay until the server stops.

        Raises:
            Exception: What the app raised after it had answered, as a server expects it.
        """
        try:
            try:
                await app(scope, self._receive, self._send)
            except Exception:
                if self._answered:
                    raise
                log.info("the wrapped app takes no lifespan")
            await self._complete()
        finally:
            await self._stop()

    async def _complete(self) -> None:
        """Do what the app has left undone."""
        if not self._asked:
            await self._receive()
        if not self._answered:
            await self._send({"type": "lifespan.startup.complete"})
        if self._failed:
            return
        if not self._stopping:
            await self._receive()
        if not self._stopped:
            await self._send({"type": "lifespan.shutdown.complete"})

    async def _receive(self) -> Message:
        if self._failed:
            return {"type": "lifespan.shutdown"}
        message = await self._from_server()
        if message["type"] == "lifespan.startup":
            self._asked = True
        elif message["type"] == "lifespan.shutdown":
            self._stopping = True
            await self._stop()
        return message

    async def _send(self, message: Message) -> None:
        if self._failed:
            return
        if message["type"] == "lifespan.startup.complete":
            try:
                await self._start()
            except GuardError as error:
                self._failed = True
                message = {"type": "lifespan.startup.failed", "message": f"guard: {error}"}
        elif message["type"] == "lifespan.startup.failed":
            self._failed = True
        else:
            self._stopped = True
        self._answered = True
        await self._to_server(message)
