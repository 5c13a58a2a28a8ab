"""The scripted engine as a Starlette app."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.scripted.reply import Halt, Pause, Reply, Step
from tests.scripted.request import ReceivedRequest
from tests.scripted.script import Answer, Script


class ScriptedApp(Script):
    """The app; ``asgi`` is what to wrap."""

    def __init__(self, *replies: Answer) -> None:
        """Prepare answers to the first requests, in order of arrival."""
        super().__init__(*replies)
        self.asgi = Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST"])])

    async def _answer(self, request: Request) -> _Played:
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = ReceivedRequest(request.method, request.url.path, headers, await request.body())
        try:
            reply = await self.take(received)
        except Exception as error:
            self.failed(error)
            raise
        return _Played(received, reply)


class ScriptEnds(Exception):
    """The app fails here, as a server whose connection is reset does."""


class _Played:
    """A response that takes the steps of a reply until the caller leaves."""

    def __init__(self, request: ReceivedRequest, reply: Reply) -> None:
        if reply.framing == "raw":
            raise ValueError("an app sends no bytes of its own making")
        self._request = request
        self._reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        playing = asyncio.create_task(self._play(send))
        leaving = asyncio.create_task(_left(receive))
        await asyncio.wait({playing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        playing.cancel()
        await asyncio.wait({playing})
        error = None if playing.cancelled() else playing.exception()
        if playing.cancelled() or isinstance(error, OSError):  # nobody to send to
            self._request.disconnected.set()
        elif error is not None:
            raise error

    async def _play(self, send: Send) -> None:
        await _take(self._reply.before, send)
        headers = [(name.encode(), value.encode()) for name, value in self._reply.headers.items()]
        await send({"type": "http.response.start", "status": self._reply.status, "headers": headers})
        await _take(self._reply.steps, send)
        await send({"type": "http.response.body", "body": b""})
        self._request.answered.set()


async def _take(steps: Sequence[Step], send: Send) -> None:
    for step in steps:
        if isinstance(step, bytes):
            await send({"type": "http.response.body", "body": step, "more_body": True})
            await asyncio.sleep(0)
        elif isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        elif isinstance(step, asyncio.Event):
            await step.wait()
        elif step is Halt.STALL:
            await asyncio.Event().wait()
        else:
            raise ScriptEnds


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
