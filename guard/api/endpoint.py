"""An endpoint as plain ASGI, without what Starlette wraps around a function for each request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send


class Endpoint:
    """Calls a function with the request and sends what it answers; its errors are the app's to handle."""

    def __init__(self, answer: Callable[[Request], Awaitable[ASGIApp]]) -> None:
        """Wrap one endpoint function."""
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = await self._answer(Request(scope, receive, send))
        await answer(scope, receive, send)
