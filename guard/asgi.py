"""The guard as ASGI middleware: its endpoints and its pipeline in the process of the app that they guard.

    vllm serve MODEL --middleware guard.asgi.GuardMiddleware
    app = GuardMiddleware(app, config="guard.toml")

Every request goes to the guard's own app, which calls the wrapped one as its engine. No request reaches
the wrapped app by itself, but for the few paths that the setting ``passed`` names: routes that a later
version of the wrapped app may bring are closed from the start.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from guard.app import create_app, running
from guard.config import MiddlewareSettings, read_settings
from guard.lifespan import LifespanRelay
from guard.logs import configure_events
from guard.upstream.in_process import WrappedApp

CONFIG_VARIABLE = "GUARD_CONFIG"
"""Environment variable that names the TOML file, where no argument does."""
_OUTER = "guard.outer"
"""Where the guard's app finds the scope that the server gave."""
_FIRST_LOOK_SECONDS = 5.0
"""How long the start waits for the wrapped app to say that it is well; requests get 503 until it does."""


class GuardMiddleware:
    """Guards an OpenAI-speaking ASGI app.

    It starts and stops with the lifespan that passes through it; where the server sends none, it starts
    with the first request and ends with ``close`` or the process.
    """

    def __init__(
        self, app: ASGIApp, /, config: str | os.PathLike[str] | None = None, **settings: Any
    ) -> None:
        """Keep the arguments; a mistake in the settings stops the server's start, not this call.

        Args:
            app: The engine; it must answer ``/v1/chat/completions`` and ``/v1/models``.
            config: TOML file with settings; left out, the one that ``GUARD_CONFIG`` names, if any.
            settings: Settings that come before those of file and environment: those of ``guard serve``
                but for ``engine.upstream`` and ``engine.kind``; ``host``, ``port`` and
                ``drain_seconds`` are the server's and mean nothing here.
        """
        self._app = app
        self._config = config or os.environ.get(CONFIG_VARIABLE) or None
        self._overrides = settings
        self._guard: Starlette | None = None
        self._starting = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the guard; relay the lifespan.

        Raises:
            GuardError: The server sends no lifespan, and the guard cannot start.
        """
        if scope["type"] == "lifespan":
            relay = LifespanRelay(receive, send, lambda: self._start(scope), self.close)
            await relay.run(self._app, scope)
            return
        if self._guard is None:
            await self._start(scope)
        assert self._guard is not None
        await self._guard({**scope, _OUTER: scope}, receive, send)

    async def close(self) -> None:
        """Stop the guard; for programs that call the app themselves and send no lifespan."""
        self._guard = None
        await self._stack.aclose()

    async def _start(self, scope: Scope) -> None:
        async with self._starting:
            if self._guard is not None:
                return
            file = Path(self._config) if self._config else None
            settings = read_settings(MiddlewareSettings, file, **self._overrides)
            configure_events(settings.log_format)
            async with AsyncExitStack() as stack:
                live = await stack.enter_async_context(
                    running(settings, wrapped=WrappedApp(self._app, scope))
                )
                with suppress(TimeoutError):
                    async with asyncio.timeout(_FIRST_LOOK_SECONDS):
                        await live.engine.wait_up()
                guard = create_app(live.service)
                guard.routes.extend(self._passed(settings.passed, tuple(guard.routes)))
                self._stack = stack.pop_all()
            self._guard = guard

    def _passed(self, paths: Sequence[str], own: Sequence[BaseRoute]) -> list[Route]:
        """Routes to paths of the wrapped app, beside the guard's own."""
        routes = []
        for path in paths:
            scope = {"type": "http", "method": "GET", "path": path}
            taken = any(route.matches(scope)[0] is not Match.NONE for route in own)
            shown = f"/engine{path}" if taken else path
            routes.append(Route(shown, _PassedOn(self._app, path), methods=["GET"]))
        return routes


class _PassedOn:
    """Hands a request to a path of the wrapped app, as if the server had."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        outer = scope[_OUTER]
        path = outer.get("root_path", "") + self._path
        await self._app({**outer, "path": path, "raw_path": path.encode()}, receive, send)
