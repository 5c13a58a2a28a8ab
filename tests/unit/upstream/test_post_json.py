"""Requests that an engine answers with one JSON value."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from guard.errors import ApiError, InvalidRequest, Overloaded, UpstreamError, UpstreamTimeout
from guard.upstream.client import Upstream
from tests.scripted import RESET, STALL, Reply, ScriptedEngine


@pytest.fixture(name="engine")
async def _engine() -> AsyncIterator[ScriptedEngine]:
    async with ScriptedEngine() as engine:
        yield engine


@pytest.fixture(name="upstream")
async def _upstream(engine: ScriptedEngine) -> AsyncIterator[Upstream]:
    upstream = Upstream(engine.base_url, api_key="secret", first_byte_timeout=0.5, total_timeout=1)
    await upstream.start()
    yield upstream
    await upstream.close()


async def test_the_value_is_returned(engine: ScriptedEngine, upstream: Upstream) -> None:
    """The body goes to the path below /v1 with the key; the answer is decoded."""
    engine.script(Reply.json({"data": [1.5]}))

    assert await upstream.post_json("embeddings", {"input": "déjà"}) == {"data": [1.5]}
    [request] = engine.requests
    assert (request.method, request.path, request.json) == ("POST", "/v1/embeddings", {"input": "déjà"})
    assert request.headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("reply", "kind", "status"),
    [
        (Reply.json({"error": {"message": "too long"}}, 400), InvalidRequest, None),
        (Reply.json({"detail": "Not Found"}, 404), UpstreamError, 404),
        (Reply.json({"error": "Unauthorized"}, 401), UpstreamError, 401),
        (Reply.json({"error": "busy"}, 429), Overloaded, None),
        (Reply.json({"error": "boom"}, 500), UpstreamError, 500),
        (Reply((b"not json",), 200, {}, "length"), UpstreamError, None),
        (Reply.drop(RESET), UpstreamError, None),
        (Reply.drop(STALL), UpstreamTimeout, None),
        (Reply((b'{"data"', STALL), 200, {}), UpstreamTimeout, None),
    ],
)
async def test_every_failure_is_one_of_the_guards_errors(
    engine: ScriptedEngine, upstream: Upstream, reply: Reply, kind: type[ApiError], status: int | None
) -> None:
    """The mapping is that of chats, and the engine's own status is kept."""
    engine.otherwise(reply)
    with pytest.raises(kind) as raised:
        await upstream.post_json("embeddings", {})

    assert type(raised.value) is kind
    assert getattr(raised.value, "engine_status", None) == status
