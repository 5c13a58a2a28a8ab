"""Endpoints that are reached directly: what becomes of their errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from guard.api.endpoint import Endpoint, GuardApp
from guard.api.errors import EXCEPTION_HANDLERS
from guard.errors import InvalidRequest

START = {"type": "http.response.start", "status": 200, "headers": []}


def _app(answer: Callable[[Request], Awaitable[ASGIApp]]) -> GuardApp:
    endpoint = Endpoint(answer)
    routes = [Route("/ask", endpoint, methods=["POST"])]
    return GuardApp({"/ask": endpoint}, routes=routes, exception_handlers=EXCEPTION_HANDLERS)


async def _sent(app: GuardApp, method: str = "POST", cut: asyncio.Event | None = None) -> list[Any]:
    """What the app sends, with the error it ends with as the last item; it is cut off at the event."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": method, "path": "/ask", "headers": [], "query_string": b""}
    task = asyncio.create_task(app(scope, receive, send))
    if cut is not None:
        await cut.wait()
        task.cancel()
    await asyncio.wait([task])
    if task.cancelled():
        return [*sent, asyncio.CancelledError]
    return [*sent, task.exception()] if task.exception() else sent


def _error(sent: list[Any]) -> tuple[int, dict[str, Any]]:
    return sent[0]["status"], orjson.loads(sent[1]["body"])["error"]


async def test_a_typed_error_is_told_in_the_apis_shape() -> None:
    """As any route's, by the same handlers; nothing is raised to the server."""

    async def answer(request: Request) -> ASGIApp:
        raise InvalidRequest("No.", param="messages")

    sent = await _sent(_app(answer))

    assert len(sent) == 2
    assert _error(sent) == (
        400,
        {"message": "No.", "type": "invalid_request_error", "param": "messages", "code": None},
    )


async def test_other_methods_go_to_the_router() -> None:
    """A path that is reached directly is a route like any other."""

    async def answer(request: Request) -> ASGIApp:
        return JSONResponse({})

    assert (await _sent(_app(answer)))[0]["status"] == 200
    assert _error(await _sent(_app(answer), "DELETE"))[0] == 405


@pytest.mark.parametrize("begun", [False, True])
async def test_a_bug_is_told_once_and_raised(begun: bool) -> None:
    """Before the answer as an error of its own; after its beginning the server closes the connection."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        if begun:
            await send(START)
        raise KeyError("a bug")

    async def answer(request: Request) -> ASGIApp:
        return broken

    *sent, error = await _sent(_app(answer))

    assert isinstance(error, KeyError)
    assert sent == [START] if begun else _error(sent)[0] == 500


@pytest.mark.parametrize("begun", [False, True])
async def test_a_request_that_the_server_cuts_off_may_be_sent_again(begun: bool) -> None:
    """A client that has got nothing is told when; the task stays cancelled."""
    waiting = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        if begun:
            await send(START)
        waiting.set()
        await asyncio.Event().wait()

    async def answer(request: Request) -> ASGIApp:
        return endless

    *sent, error = await _sent(_app(answer), cut=waiting)

    assert error is asyncio.CancelledError
    if begun:
        assert sent == [START]
    else:
        assert _error(sent)[0] == 503
        assert (b"retry-after", b"1") in sent[0]["headers"]
