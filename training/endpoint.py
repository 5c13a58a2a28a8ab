"""Ask an OpenAI-compatible endpoint many things at once, and never the same thing twice.

Replies are kept in SQLite by the digest of the request, written as each arrives: a run that was
killed begins again where it stopped, and a changed prompt is asked anew. Connection failures, 429
and 5xx are tried again with growing pauses; anything else ends the stage.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import aiohttp
import orjson

from guard.policy.model import digest
from training.errors import EndpointError, RecipeError
from training.recipe import Endpoint

FIRST_PAUSE_SECONDS = 0.5


class Reply(NamedTuple):
    """One choice of a completion."""

    text: str
    finish: str
    logprobs: tuple[dict[str, float], ...] = ()
    """Of each token position: logprob by candidate token, where the request asked for them."""
    thinking: str = ""
    """What the endpoint sends apart from the text, where it splits them."""


class Cache:
    """Replies by request digest, durable row by row."""

    def __init__(self, path: Path) -> None:
        """Open or create the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS reply (key TEXT PRIMARY KEY, value BLOB NOT NULL)")
        self._db.commit()

    def __enter__(self) -> Self:
        """The cache itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file."""
        self._db.close()

    def get(self, key: str) -> Any:
        """The stored value, or None."""
        row = self._db.execute("SELECT value FROM reply WHERE key = ?", (key,)).fetchone()
        return orjson.loads(row[0]) if row else None

    def put(self, key: str, value: object) -> None:
        """Store a value for good."""
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO reply VALUES (?, ?)", (key, orjson.dumps(value)))


def address_digest(endpoint: Endpoint) -> str:
    """Twelve digits for what is asked, to name files by; settings such as concurrency make no difference."""
    return digest([endpoint.url, endpoint.model])[:12]


def needed(endpoint: Endpoint | None, table: str, stage: str) -> Endpoint:
    """An endpoint that a stage cannot do without.

    Raises:
        RecipeError: The recipe has no such table.
    """
    if endpoint is None:
        raise RecipeError("recipe", [f"stage {stage} needs an endpoint: add a [{table}] table"])
    return endpoint


def ask_all(
    endpoint: Endpoint,
    cache: Cache,
    bodies: Sequence[dict[str, Any]],
    advance: Callable[[], None] = lambda: None,
) -> list[list[Reply]]:
    """Send every chat completion body; the choices of each, in the order of the bodies.

    Args:
        endpoint: Where to send them; adds the model.
        cache: What was asked before.
        bodies: Request bodies without ``model``.
        advance: Called once per finished body.

    Raises:
        EndpointError: The endpoint failed for good; replies up to then are in the cache.
    """
    return asyncio.run(_ask_all(endpoint, cache, bodies, advance))


async def _ask_all(
    endpoint: Endpoint, cache: Cache, bodies: Sequence[dict[str, Any]], advance: Callable[[], None]
) -> list[list[Reply]]:
    full = [{"model": endpoint.model, **body} for body in bodies]
    keys = [digest(body) for body in full]
    found: dict[str, list[Reply]] = {}
    missing: dict[str, dict[str, Any]] = {}
    for key, body in zip(keys, full, strict=True):
        stored = cache.get(key)
        if stored is not None:
            found[key] = _choices(stored)
            advance()
        elif key in missing:
            advance()
        else:
            missing[key] = body
    if missing:
        found |= await _send_all(endpoint, cache, missing, advance)
    return [found[key] for key in keys]


async def _send_all(
    endpoint: Endpoint, cache: Cache, missing: dict[str, dict[str, Any]], advance: Callable[[], None]
) -> dict[str, list[Reply]]:
    """Send what no cache holds; the first failure for good cancels the rest."""
    headers = {}
    if endpoint.key_variable:
        key = os.environ.get(endpoint.key_variable)
        if not key:
            raise EndpointError(
                f"environment variable {endpoint.key_variable} (API key of {endpoint.url}) is not set"
            )
        headers["Authorization"] = f"Bearer {key}"
    gate = asyncio.Semaphore(endpoint.concurrency)
    found: dict[str, list[Reply]] = {}
    timeout = aiohttp.ClientTimeout(total=endpoint.timeout_seconds)
    connector = aiohttp.TCPConnector(limit=endpoint.concurrency)

    async def one(session: aiohttp.ClientSession, key: str, body: dict[str, Any]) -> None:
        async with gate:
            reply = await _send(session, endpoint, body)
        found[key] = _choices(reply)
        cache.put(key, reply)
        advance()

    async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as session:
        try:
            async with asyncio.TaskGroup() as group:
                for key, body in missing.items():
                    group.create_task(one(session, key, body))
        except ExceptionGroup as failures:  # `except*` would wrap what it raises, in Python up to 3.11.3
            if failures.split(EndpointError)[1] is not None:
                raise
            raise failures.exceptions[0] from None
    return found


async def _send(session: aiohttp.ClientSession, endpoint: Endpoint, body: dict[str, Any]) -> dict[str, Any]:
    url = f"{endpoint.url.rstrip('/')}/chat/completions"
    problem = ""
    for attempt in range(endpoint.retries + 1):
        if attempt:
            await asyncio.sleep(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            async with session.post(url, json=body) as response:
                text = await response.text()
                if response.status == 200:
                    return _parse(url, text)
                problem = f"status {response.status}: {text[:300]}"
                if response.status != 429 and response.status < 500:
                    break
        except (aiohttp.ClientError, TimeoutError) as error:
            problem = f"{type(error).__name__}: {error}"
    raise EndpointError(
        f"{url} failed ({problem}). What was answered so far is kept: mend the endpoint, run the stage again."
    )


def _parse(url: str, text: str) -> dict[str, Any]:
    try:
        reply = orjson.loads(text)
        _choices(reply)
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError) as error:
        raise EndpointError(f"{url} answered what is not a chat completion: {text[:300]}") from error
    return {"choices": reply["choices"]}


def _choices(reply: dict[str, Any]) -> list[Reply]:
    return [
        Reply(
            choice["message"].get("content") or "",
            choice.get("finish_reason") or "",
            tuple(_positions((choice.get("logprobs") or {}).get("content") or ())),
            choice["message"].get("reasoning") or choice["message"].get("reasoning_content") or "",
        )
        for choice in reply["choices"]
    ]


def _positions(content: Iterable[dict[str, Any]]) -> Iterable[dict[str, float]]:
    for position in content:
        yield {top["token"]: top["logprob"] for top in position.get("top_logprobs") or [position]}
