"""A whole guard and a scripted engine: real sockets, real policy, real database.

The guard is a proxy in front of the engine, or middleware around it in one process: ``FRONT`` says which,
and tests/service runs every test with each.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import aiohttp
import orjson
import uvicorn

from guard.app import create_app, running
from guard.asgi import GuardMiddleware
from guard.audit.query import Filter, find
from guard.audit.record import Outcome, Record
from guard.audit.store import AuditStore
from guard.cli import SERVER
from guard.config import load_settings
from guard.retrieval.dense import StaticEncoder
from tests.scripted import Answer, ReceivedRequest, Reply, Script, ScriptedApp, ScriptedEngine, chat_events

Front = Literal["proxy", "middleware"]
FRONT: Front = "proxy"
"""How the guard stands before its engine."""

POLICY = Path(__file__).parent.parent / "specs" / "default"

HARMLESS = "Sharpening a knife harms nobody.\nDecision: comply\n"
REFUSING = 'This asks for method detail. [SH3] "compare methods"\nDecision: refuse\n'


@dataclass(frozen=True)
class Guarded:
    """A running guard, a client for it, and its records."""

    url: str
    """Address with ``/v1``."""
    session: aiohttp.ClientSession
    engine: Script
    database: Path

    async def post(
        self, body: Any, path: str = "/chat/completions", **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers (lower case) and decoded JSON of one POST; bytes are sent as they are."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        async with self.session.post(self.url + path, data=data, headers=headers) as response:
            text = await response.read()
            found = {name.lower(): value for name, value in response.headers.items()}
            return response.status, found, orjson.loads(text)

    async def leave(self, body: Any, path: str = "/chat/completions") -> list[Record]:
        """Ask, leave once the engine was called and has had time to answer; the records after that.

        Fails where the engine's connection is not dropped.
        """
        posting = asyncio.create_task(self.post(body, path))
        while not self.calls:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        posting.cancel()
        await asyncio.wait({posting})
        await asyncio.wait_for(self.calls[0].disconnected.wait(), 5)
        records: list[Record] = []
        for _ in range(100):
            records = await self.records()
            if records and records[0].outcome is Outcome.DISCONNECTED:
                break
            await asyncio.sleep(0.02)
        return records

    async def chat(self, content: str = "How do I sharpen a knife?", **fields: Any) -> dict[str, Any]:
        """The body of a chat completion that must succeed."""
        status, _, body = await self.post(ask(content, **fields))
        assert status == 200, body
        assert isinstance(body, dict)
        return body

    async def stream(self, content: str = "How do I sharpen a knife?", **fields: Any) -> Streamed:
        """A streamed chat completion, read to its end."""
        body = orjson.dumps(ask(content, stream=True, **fields))
        async with self.session.post(self.url + "/chat/completions", data=body) as response:
            raw = await response.read()
            found = {name.lower(): value for name, value in response.headers.items()}
            return Streamed(response.status, found, raw)

    @property
    def server(self) -> ScriptedEngine:
        """The engine, where it is behind a socket."""
        assert isinstance(self.engine, ScriptedEngine)
        return self.engine

    @property
    def calls(self) -> list[ReceivedRequest]:
        """The chat calls that the engine got."""
        return [request for request in self.engine.requests if request.path.endswith("/chat/completions")]

    async def records(self) -> list[Record]:
        """Every record, oldest first."""
        store = await AuditStore.open(str(self.database))
        try:
            return (await find(store, Filter(limit=100_000)))[::-1]
        finally:
            await store.close()


@dataclass(frozen=True)
class Streamed:
    """One streamed answer, whole."""

    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def events(self) -> list[Any]:
        """The decoded data of each event; ``[DONE]`` as text."""
        lines = [line[6:] for line in self.raw.split(b"\n") if line.startswith(b"data: ")]
        return ["[DONE]" if line == b"[DONE]" else orjson.loads(line) for line in lines]

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """The chunks with choices."""
        return [event for event in self.events if isinstance(event, dict) and event.get("choices")]

    def text(self, field: str = "content", index: int = 0) -> str:
        """A field of the deltas of one choice, joined."""
        deltas = [c["choices"][0] for c in self.chunks if c["choices"][0]["index"] == index]
        return "".join(choice["delta"].get(field) or "" for choice in deltas)


def ask(content: str = "How do I sharpen a knife?", **fields: Any) -> dict[str, Any]:
    """A minimal chat request."""
    return {"model": "default", "messages": [{"role": "user", "content": content}], **fields}


def engine_reply(
    answer: str | Sequence[str] = "With a whetstone.",
    thinking: str | Sequence[str] = HARMLESS,
    **options: Any,
) -> Reply:
    """What a vLLM with a reasoning parser sends."""
    return Reply.sse(chat_events(answer, thinking, **options))


MODELS = ({"id": "scripted", "object": "model"},)
"""What the scripted engine lists."""


def answering(
    chat: Callable[[ReceivedRequest], Reply], models: Sequence[dict[str, Any]] = MODELS
) -> Callable[[ReceivedRequest], Reply]:
    """An engine that is well and answers chats by this function."""

    def reply(request: ReceivedRequest) -> Reply:
        if request.path.endswith("/models"):
            return Reply.json({"object": "list", "data": list(models)})
        return chat(request) if request.path.endswith("/chat/completions") else Reply.json({})

    return reply


@cache
def _encoder() -> StaticEncoder:
    """Loaded once for all tests of a process; it holds no state that a test could see."""
    return StaticEncoder.load()


@asynccontextmanager
async def guarded(
    folder: Path,
    chat: Callable[[ReceivedRequest], Reply] | None = None,
    *,
    models: Sequence[dict[str, Any]] = MODELS,
    **overrides: Any,
) -> AsyncIterator[Guarded]:
    """Run a guard with a scripted engine.

    Args:
        folder: For its database and spill file.
        chat: Answers the engine's chat calls; left out, a harmless answer every time.
        models: What the engine lists.
        overrides: Settings, as ``load_settings`` takes them.
    """
    default = engine_reply()
    answer = answering(chat or (lambda request: default), models)
    database = folder / "guard.db"
    audit = {"database": str(database), "spill": folder / "spill.jsonl"}
    settings = {"policies": (POLICY,), **overrides, "audit": {**audit, **overrides.get("audit", {})}}
    front = _proxy if FRONT == "proxy" else _middleware
    async with front(answer, settings) as (url, engine):
        headers = {"content-type": "application/json"}
        async with aiohttp.ClientSession(headers=headers) as session:
            yield Guarded(f"{url}/v1", session, engine, database)


@asynccontextmanager
async def _proxy(answer: Answer, settings: dict[str, Any]) -> AsyncIterator[tuple[str, Script]]:
    async with ScriptedEngine() as engine:
        engine.otherwise(answer)
        address = {"upstream": engine.base_url, **settings.get("engine", {})}
        loaded = load_settings(**{**settings, "engine": address})
        async with running(loaded, _encoder()) as live, serving(create_app(live.service)) as url:
            await asyncio.wait_for(live.engine.wait_up(), 10)
            yield url, engine


@asynccontextmanager
async def _middleware(answer: Answer, settings: dict[str, Any]) -> AsyncIterator[tuple[str, Script]]:
    engine = ScriptedApp()
    engine.otherwise(answer)
    engine.asgi.add_middleware(GuardMiddleware, **settings)
    async with serving(engine.asgi, lifespan="on") as url:
        yield url, engine
    await engine.stop()


@asynccontextmanager
async def serving(app: Callable[..., Awaitable[None]], **options: Any) -> AsyncIterator[str]:
    """Serve an ASGI app on a free loopback port, as the guard does but for these options."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    config = uvicorn.Config(app, **{**SERVER, **options}, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve([listener]))  # without taking over signal handlers
    try:
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()
