"""The client of an engine that is an ASGI app of this very process: no socket, the same promises.

A server is played to the app: a scope of its own for each call, one request message, then
``http.disconnect`` as soon as the caller has left or the response is complete. The app's ``send``
waits while the caller is behind, as it would for a full socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Scope
from yarl import URL

from guard.upstream.client import Upstream
from guard.upstream.refusal import refusal
from guard.upstream.wire import Response, failure, refused

HIGH_WATER = 64 * 1024
"""Bytes of a body that wait to be read before the app has to wait."""
LEAVE_SECONDS = 5.0
"""How long calls that were left get to end before the guard that made them ends."""
_INHERITED = ("app", "root_path", "state")
"""Of a server's scope: where the app finds itself, and what its lifespan made."""

log = structlog.get_logger(__name__)


class WrappedApp(NamedTuple):
    """An app that answers as an engine does."""

    app: ASGIApp
    scope: Mapping[str, Any]
    """Any scope that the server gave it: its lifespan's, or a request's."""


class InProcessUpstream(Upstream):
    """One OpenAI-speaking ASGI app."""

    def __init__(
        self,
        wrapped: WrappedApp,
        *,
        api_key: str | None = None,
        first_byte_timeout: float = 300.0,
        idle_timeout: float = 60.0,
        total_timeout: float = 1800.0,
    ) -> None:
        """Keep the app; it is not called yet.

        Args:
            wrapped: The engine.
            api_key: As for ``Upstream``, like all that follow.
            first_byte_timeout: Seconds from the call to the first token of its answer.
            idle_timeout: Seconds between two parts of a body.
            total_timeout: Seconds for one whole exchange.

        Raises:
            ConfigError: The key cannot be used.
        """
        super().__init__(
            "http://in-process/v1",
            api_key=api_key,
            first_byte_timeout=first_byte_timeout,
            idle_timeout=idle_timeout,
            total_timeout=total_timeout,
        )
        self._app = wrapped.app
        self._inherited = {name: wrapped.scope[name] for name in _INHERITED if name in wrapped.scope}
        self._sent = [
            (name.lower().encode(), value.encode())
            for name, value in (("Host", "in-process"), *self._headers.items())
        ]
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Nothing is to be opened."""

    async def close(self) -> None:
        """Wait until calls that were left have ended; those that do not end are cancelled."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=LEAVE_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=LEAVE_SECONDS)

    async def _send(self, method: str, url: URL, deadline: float, data: bytes | None = None) -> Response:
        call = _Call(self._app, self._scope(method, url, data or b""), data or b"")
        self._tasks.add(call.task)
        call.task.add_done_callback(self._tasks.discard)
        try:
            async with asyncio.timeout_at(deadline):
                await call.begun()
                if call.status == 200:
                    return call
                raise await refused(call)
        except TimeoutError as error:
            call.close()
            raise failure(error, self.base_url) from error
        except BaseException:
            call.close()
            raise

    def _scope(self, method: str, url: URL, data: bytes) -> Scope:
        path = self._inherited.get("root_path", "") + url.path
        scope: Scope = {
            **self._inherited,
            "type": "http",
            # 2.3: apps learn that the caller left from receive, at once, not from their next send
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [*self._sent, (b"content-length", str(len(data)).encode())],
            "client": ("127.0.0.1", 0),
            "server": ("in-process", None),
            "extensions": {},
        }
        if "state" in scope:
            scope["state"] = dict(scope["state"])  # as servers do: each request has its own
        return scope


class _Call:
    """One request to the app and the response to it; itself the body that is read."""

    def __init__(self, app: ASGIApp, scope: Scope, body: bytes) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self._request: bytes | None = body
        self._parts: list[bytes] = []
        self._size = 0
        self._complete = False
        """The app has sent all of the response."""
        self._lost = False
        """The app has ended without doing so."""
        self._left = False
        """The reader wants no more."""
        self._news = asyncio.Event()
        """For the reader: something has arrived, or nothing more will."""
        self._room = asyncio.Event()
        """For ``send``: there is room, or nobody who reads."""
        self._over = asyncio.Event()
        """For ``receive``: the response is complete or not wanted."""
        self.task = asyncio.create_task(self._run(app, scope))

    @property
    def content(self) -> _Call:
        """The body."""
        return self

    async def begun(self) -> None:
        """Wait for the head.

        Raises:
            UpstreamError: The app ended without one, as a server would say it: HTTP 500.
        """
        while not self.status:
            if self._lost:
                raise refusal(500, b"the app ended without an answer")
            await self._next()

    def read_nowait(self) -> bytes:
        """What has arrived; empty where that is nothing."""
        data = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        self._room.set()
        return data

    def at_eof(self) -> bool:
        """Whether all of the body was read, up to its orderly end."""
        return self._complete and not self._parts

    async def readany(self) -> bytes:
        """What has arrived, waiting where that is nothing; empty at the end.

        Raises:
            ConnectionError: The app ended in the middle of its response.
        """
        while not self._parts and not self._complete:
            if self._lost:
                raise ConnectionResetError("the app ended in the middle of its response")
            await self._next()
        return self.read_nowait()

    def close(self) -> None:
        """Leave; the app is told, where it is not done."""
        self._left = True
        self._parts.clear()
        self._over.set()
        self._room.set()

    async def _next(self) -> None:
        self._news.clear()
        await self._news.wait()

    async def _run(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:
            if self._complete or not self._left:
                log.error("the wrapped app failed", path=scope["path"], exc_info=error)
        finally:
            self._lost = not self._complete
            self._over.set()
            self._news.set()

    async def _receive(self) -> Message:
        if self._request is not None:
            body, self._request = self._request, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._left:
            raise ConnectionResetError("nobody is there to read the response")
        match message["type"]:
            case "http.response.start" if not self.status:
                self.headers = Headers(
                    raw=[(name.lower(), value) for name, value in message.get("headers", ())]
                )
                self.status = message["status"]
            case "http.response.body" if self.status and not self._complete:
                await self._take(message.get("body", b""), more=message.get("more_body", False))
            case kind:
                raise RuntimeError(f"unexpected ASGI message {kind!r}")
        self._news.set()

    async def _take(self, data: bytes, *, more: bool) -> None:
        if data:
            self._parts.append(data)
            self._size += len(data)
        if not more:
            self._complete = True
            self._over.set()
        elif self._size > HIGH_WATER:
            self._news.set()
            self._room.clear()
            await self._room.wait()
