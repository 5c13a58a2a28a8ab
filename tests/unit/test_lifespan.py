from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message, Receive, Scope, Send

from guard.errors import ConfigError
from guard.lifespan import LifespanRelay

App = Callable[[Scope, Receive, Send], Awaitable[None]]
COMPLETE, FAILED = "lifespan.startup.complete", "lifespan.startup.failed"
STOPPED = "lifespan.shutdown.complete"


class Server:
    """A server's side of one lifespan; all that happens is written down in order."""

    def __init__(self, error: Exception | None = None) -> None:
        self.seen: list[str] = []
        self.told: list[Message] = []
        self._error = error
        self._open = False
        self._messages = iter(("startup", "shutdown"))

    async def run(self, app: App) -> list[str]:
        """What happened, from the start of the server to its end."""
        relay = LifespanRelay(self._receive, self._send, self._start, self._stop)
        await relay.run(app, {"type": "lifespan"})
        return self.seen

    async def _receive(self) -> Message:
        kind = next(self._messages, None)
        if kind is None:
            await asyncio.Event().wait()
        return {"type": f"lifespan.{kind}"}

    async def _send(self, message: Message) -> None:
        self.told.append(message)
        self.seen.append(message["type"])

    async def _start(self) -> None:
        self.seen.append("start")
        if self._error:
            raise self._error
        self._open = True

    async def _stop(self) -> None:
        if self._open:
            self.seen.append("stop")
        self._open = False


def orderly(seen: list[str]) -> App:
    """An app with a lifespan as the protocol has it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        seen.append("app starts")
        await send({"type": COMPLETE})
        await receive()
        seen.append("app stops")
        await send({"type": STOPPED})

    return app


async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that knows HTTP alone."""
    raise AssertionError(scope["type"])


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that returns where it is asked for a lifespan."""


async def brief(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that is done with its lifespan once it has started."""
    await receive()
    await send({"type": COMPLETE})


async def test_ours_lives_within_the_life_of_the_app() -> None:
    """It starts after the app and stops before it; the server hears of each once."""
    server = Server()

    seen = await server.run(orderly(server.seen))

    assert seen == ["app starts", "start", COMPLETE, "stop", "app stops", STOPPED]


@pytest.mark.parametrize("app", [deaf, silent, brief])
async def test_an_app_without_lifespan_is_stood_in_for(app: App) -> None:
    """The server gets the same answers as from an app that has one."""
    assert await Server().run(app) == ["start", COMPLETE, "stop", STOPPED]


async def test_a_start_that_fails_stops_the_server_and_the_app() -> None:
    """The reason is told, the app stops in order, and nothing is said twice."""
    server = Server(ConfigError("no such policy"))

    seen = await server.run(orderly(server.seen))

    assert seen == ["app starts", "start", FAILED, "app stops"]
    assert server.told == [{"type": FAILED, "message": "guard: no such policy"}]


async def test_a_start_that_fails_without_an_app_beside_it_is_told_as_well() -> None:
    """An app without lifespan changes nothing about that."""
    server = Server(ConfigError("no such policy"))

    assert await server.run(deaf) == ["start", FAILED]


async def test_an_app_that_cannot_start_is_the_servers_to_judge() -> None:
    """Its own failure is passed on, and ours is not started."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": FAILED, "message": "no GPU"})
        raise RuntimeError("no GPU")

    server = Server()
    with pytest.raises(RuntimeError, match="no GPU"):
        await server.run(app)

    assert server.told == [{"type": FAILED, "message": "no GPU"}]


async def test_ours_stops_where_the_app_fails_later() -> None:
    """An app that raises after its start takes nothing with it that stays open."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": COMPLETE})
        raise RuntimeError("lost")

    server = Server()
    with pytest.raises(RuntimeError, match="lost"):
        await server.run(app)

    assert server.seen == ["start", COMPLETE, "stop"]
