"""The HTTP client of one engine: chat completions as a checked stream, models, health.

What it promises its caller: an answer that ends without an exception was whole; every failure is one
of the guard's errors; and a caller who stops listening (closing the stream, cancellation)
drops the connection at once, which is how engines learn to stop generating.

What shaped it, besides that:

- aiohttp caps a session at 100 connections unless told otherwise; a proxy that holds one connection
  per open stream must not queue the hundred-and-first behind them.
- vLLM closes idle connections after 5 s. Ours are dropped after 2 s, and a request that still meets a
  closing connection before the first byte of an answer is sent once more, on a new connection; never
  after that byte.
- A request may wait in the engine's queue for minutes before its first token, and must not stall for
  as long between two chunks; these are two timeouts, so aiohttp's one read timeout is not used. The
  first *chunk* tells nothing: transformers serve sends the role before it looks at the prompt.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import closing
from typing import Any

import aiohttp
import orjson
from yarl import URL

from guard.errors import ApiError, ConfigError, UpstreamError
from guard.upstream.chunks import bad_answer
from guard.upstream.stream import ChunkStream
from guard.upstream.text_runs import Chunk, apart
from guard.upstream.wire import Response, failure, read_all, refused, unanswered

_PROBE_SECONDS = 5.0
"""For health and model list, which no engine needs long for."""


class Upstream:
    """One engine behind an OpenAI-compatible address; holds a pool of connections.

    Create it anywhere, ``start`` it inside the event loop that uses it, ``close`` it there.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        connect_timeout: float = 5.0,
        first_byte_timeout: float = 300.0,
        idle_timeout: float = 60.0,
        total_timeout: float = 1800.0,
        max_connections: int = 0,
        keepalive: float = 2.0,
    ) -> None:
        """Keep the settings; nothing is opened yet.

        Args:
            base_url: The engine's address, with or without ``/v1``.
            api_key: Sent as a bearer token; no such header when left out.
            connect_timeout: Seconds to open a connection.
            first_byte_timeout: Seconds from sending a request to the first token of its answer, the
                wait in the engine's queue and the reading of the prompt included.
            idle_timeout: Seconds between two reads of a body; a comment that an engine sends to
                keep a connection alive counts.
            total_timeout: Seconds for one whole exchange.
            max_connections: Most connections at once; 0 sets no limit.
            keepalive: Seconds an idle connection is kept; keep it below the engine's own.

        Raises:
            ConfigError: The address or the key cannot be used.
        """
        self._root, self._base = _addresses(base_url)
        self._chat_url = self._base / "chat" / "completions"
        self._headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "deliberative-guard",
        }
        if api_key is not None:
            if not api_key.isascii() or not api_key.isprintable() or not api_key.strip():
                raise ConfigError("the engine's key holds characters no HTTP header can carry")
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._connect_timeout = connect_timeout
        self._first_byte_timeout = first_byte_timeout
        self._idle_timeout = idle_timeout
        self._total_timeout = total_timeout
        self._max_connections = max_connections
        self._keepalive = keepalive
        self._session: aiohttp.ClientSession | None = None
        self._anew: aiohttp.ClientSession | None = None
        """Opens a connection for each request."""

    @property
    def base_url(self) -> str:
        """The address that requests go to, ``/v1`` included."""
        return str(self._base)

    async def start(self) -> None:
        """Make the connection pool; opens no connection."""
        if self._session is None:
            self._session = self._open_session(keepalive_timeout=self._keepalive)
            self._anew = self._open_session(force_close=True)

    def _open_session(self, **connections: Any) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._max_connections, **connections),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close every connection; streams that are still open break."""
        sessions = (self._session, self._anew)
        self._session = self._anew = None
        for session in sessions:
            if session is not None:
                await session.close()

    async def stream(self, body: Mapping[str, Any]) -> ChunkStream:
        """Send a chat completion request; its answer is read from the stream, which its caller closes.

        Args:
            body: The request, with ``stream`` true.

        Raises:
            InvalidRequest: The engine refuses the request as the client's mistake.
            Overloaded: The engine has no room now.
            UpstreamTimeout: One of the timeouts.
            UpstreamError: Everything else.
        """
        started = asyncio.get_running_loop().time()
        last = started + self._total_timeout
        first_byte = min(started + self._first_byte_timeout, last)
        response = await self._send("POST", self._chat_url, first_byte, orjson.dumps(body))
        return ChunkStream(response, first_byte, last, self._idle_timeout)

    async def chat(self, body: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        """The same, chunk by chunk; close the generator (``aclosing``) when leaving it early."""
        with closing(await self.stream(body)) as stream:
            while batch := await stream.read():
                for chunk in apart(batch):
                    yield chunk

    async def post_json(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send a request that is answered with one JSON value.

        Args:
            path: Below ``/v1``, such as ``embeddings``.
            body: The request.

        Raises:
            InvalidRequest: The engine refuses the request as the client's mistake.
            Overloaded: The engine has no room now.
            UpstreamTimeout: One of the timeouts.
            UpstreamError: Everything else; ``engine_status`` says whether it knows the path.
        """
        started = asyncio.get_running_loop().time()
        last = started + self._total_timeout
        first_byte = min(started + self._first_byte_timeout, last)
        response = await self._send("POST", self._base / path, first_byte, orjson.dumps(body))
        return await self._json(response, last)

    async def models(self) -> list[dict[str, Any]]:
        """The entries of the engine's model list.

        Raises:
            UpstreamError: The list cannot be had; also ``Overloaded``, as for ``chat``.
        """
        value = await self._get_json(self._base / "models")
        data = value.get("data") if isinstance(value, dict) else None
        if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
            raise bad_answer("the engine's model list is malformed")
        return data

    async def healthy(self) -> bool:
        """Whether the engine answers and says that it is well."""
        try:
            await self.probe()
        except ApiError:
            return False
        return True

    async def probe(self) -> None:
        """Ask ``/health``, or the model list where the engine has no such path.

        Raises:
            UpstreamError: The engine is not well, with the reason; also ``Overloaded``, which is
                what engines answer whose worker died.
        """
        deadline = asyncio.get_running_loop().time() + _PROBE_SECONDS
        try:
            response = await self._send("GET", self._root / "health", deadline)
        except UpstreamError as error:
            if error.code != "engine_misconfigured":
                raise
            await self.models()
        else:
            response.close()

    async def _send(self, method: str, url: URL, deadline: float, data: bytes | None = None) -> Response:
        """The response once its head is there and says 200."""
        session = self._session
        if session is None:
            raise RuntimeError("the upstream client was not started")
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    response = await session.request(method, url, data=data, allow_redirects=False)
                    if response.status != 200:
                        raise await refused(response)
                    return response
            except (aiohttp.ClientError, TimeoutError) as error:
                if session is self._anew or self._anew is None or not unanswered(error):
                    raise failure(error, str(self._base)) from error
                session = self._anew  # for other idle connections may be closing just then too

    async def _get_json(self, url: URL) -> Any:
        deadline = asyncio.get_running_loop().time() + _PROBE_SECONDS
        return await self._json(await self._send("GET", url, deadline), deadline)

    async def _json(self, response: Response, deadline: float) -> Any:
        """The value that is the whole body."""
        try:
            return orjson.loads(await read_all(response, deadline))
        except orjson.JSONDecodeError as error:
            raise bad_answer(f"not JSON: {error}") from error
        finally:
            response.close()


def _addresses(base_url: str) -> tuple[URL, URL]:
    """The root and the ``/v1`` address for an engine's base URL in either form."""
    try:
        url = URL(base_url.strip())
    except ValueError as error:
        raise ConfigError(f"the engine's address {base_url!r} is no URL") from error
    if url.scheme not in {"http", "https"} or not url.host or url.query_string or url.fragment:
        raise ConfigError(
            f"the engine's address {base_url!r} is not of the form http://host:port or http://host:port/v1"
        )
    if url.user is not None or url.password is not None:
        raise ConfigError("the engine's address holds a user or password; use the key setting")
    url = url.with_path(url.path.rstrip("/") or "/")
    if url.name == "v1":
        return url.parent, url
    return url, url / "v1"
