"""Reading responses, and what a lost connection or a passed deadline means.

Deadlines are times of the event loop's clock. They are set around single reads, never across a
``yield``: a timeout that stays armed while a generator's caller runs would cancel the caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

import aiohttp

from guard.errors import ApiError, UpstreamError, UpstreamTimeout
from guard.upstream.chunks import bad_answer, broken
from guard.upstream.refusal import refusal

_MAX_BODY_BYTES = 32 * 1024 * 1024
"""Of an answer that is not a stream."""
_MAX_ERROR_BYTES = 64 * 1024
_DRAIN_SECONDS = 0.2
"""How long to wait after ``[DONE]`` for the body to end, so that the connection can be kept."""
_NO_CONNECTION = (aiohttp.ClientConnectorError, aiohttp.ServerFingerprintMismatch, TimeoutError)
_LOST = (aiohttp.ClientError, ConnectionError)
"""What reading a body raises where its sender is gone."""


class Body(Protocol):
    """What is read of a response's body; ``aiohttp.StreamReader`` is one."""

    def read_nowait(self) -> bytes:
        """What has arrived; empty where that is nothing."""

    def at_eof(self) -> bool:
        """Whether all of the body was read, up to its orderly end."""

    async def readany(self) -> bytes:
        """What has arrived, waiting where that is nothing; empty at the end."""


class Response(Protocol):
    """A response whose head is there; ``aiohttp.ClientResponse`` is one."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; names in any case."""

    @property
    def content(self) -> Body:
        """The body."""

    def close(self) -> None:
        """Leave: whoever sends the response learns of it, unless it was read to its end."""


async def read(response: Response, deadline: float) -> bytes:
    """The next bytes of the body, empty at its orderly end; waits only where none are there yet."""
    content = response.content
    try:
        data = content.read_nowait()
        if data or content.at_eof():
            return data
        async with asyncio.timeout_at(deadline):
            return await content.readany()
    except (*_LOST, TimeoutError) as error:
        raise _failure_in_body(error) from error


async def read_all(response: Response, deadline: float) -> bytes:
    """The whole body, up to a limit far above any answer."""
    parts, size = [], 0
    while data := await read(response, deadline):
        parts.append(data)
        size += len(data)
        if size > _MAX_BODY_BYTES:
            raise bad_answer(f"the engine's answer is over {_MAX_BODY_BYTES} bytes")
    return b"".join(parts)


async def drain(response: Response) -> None:
    """Read to the end of a body whose answer is complete; a body that goes on is cut off."""
    if response.content.at_eof():
        return
    with suppress(UpstreamError):
        deadline = asyncio.get_running_loop().time() + _DRAIN_SECONDS
        while await read(response, deadline):
            pass


async def refused(response: Response) -> ApiError:
    """The error for a status other than 200; reads no more of the body than errors have."""
    body = b""
    try:
        with suppress(*_LOST):
            while (more := await response.content.readany()) and len(body) < _MAX_ERROR_BYTES:
                body += more
    finally:
        response.close()
    return refusal(response.status, body, response.headers.get("Retry-After"))


def unanswered(error: Exception) -> bool:
    """Whether an existing connection was lost before any byte of the answer."""
    if isinstance(error, _NO_CONNECTION):
        return False
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)  # else: the part of a head that had arrived
    return isinstance(error, aiohttp.ClientConnectionError)


def failure(error: Exception, base_url: str) -> UpstreamError:
    """The error for an exchange that failed before the body."""
    if isinstance(error, TimeoutError):
        return UpstreamTimeout("The engine did not answer in time.", code="engine_timeout")
    if isinstance(error, aiohttp.ClientResponseError):
        return bad_answer(f"no HTTP answer: {error}")
    unreachable = UpstreamError("The engine cannot be reached.", code="engine_unreachable")
    unreachable.add_note(f"engine at {base_url}: {error}")
    return unreachable


def _failure_in_body(error: Exception) -> UpstreamError:
    if isinstance(error, TimeoutError):
        return UpstreamTimeout(
            "The engine stopped answering in the middle of an answer.", code="engine_timeout"
        )
    return broken("The connection to the engine was lost in the middle of an answer.")
