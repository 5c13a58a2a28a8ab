"""Endpoints as plain ASGI, reached without what Starlette wraps around a function for each request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from guard.errors import Overloaded

_FAILED = "guard.failed"
"""Where an endpoint that is called again finds its own error."""
_STOPPING = "The guard is stopping, and this request took longer than it waits for. Try again."


class Endpoint:
    """Calls a function with the request and sends what it answers; its errors are the app's to handle."""

    def __init__(self, answer: Callable[[Request], Awaitable[ASGIApp]]) -> None:
        """Wrap one endpoint function."""
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if _FAILED in scope:
            raise scope.pop(_FAILED)
        answer = await self._answer(Request(scope, receive, send))
        await answer(scope, receive, send)


class GuardApp(Starlette):
    """A Starlette app that reaches some of its endpoints directly, as long as they do not fail.

    Two middlewares and a router would stand between server and endpoint, and see every message. All that
    they do for these endpoints is to handle errors, and so they get those.
    """

    def __init__(self, direct: Mapping[str, Endpoint], **settings: Any) -> None:
        """Make the app.

        Args:
            direct: Endpoints by path, for POST; they stand among the routes as well.
            settings: Starlette's.
        """
        super().__init__(**settings)
        self._direct = dict(direct)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or take part in the server's lifespan."""
        endpoint = self._direct.get(scope["path"]) if scope.get("method") == "POST" else None
        if endpoint is None:
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await endpoint(scope, receive, noting)
        except Exception as error:
            scope[_FAILED] = error
            await super().__call__(scope, receive, _nowhere if begun else send)
        except asyncio.CancelledError:  # the server stops; a client that leaves is another matter
            if not begun:
                scope[_FAILED] = Overloaded(_STOPPING, code="guard_stopping", retry_after=1)
                await super().__call__(scope, receive, send)
            raise


async def _nowhere(message: Message) -> None:
    """For an error after the answer has begun: it is logged, and can be told no more."""
