"""Embeddings through the whole guard: passed on, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from guard.keys import hash_key, new_key
from tests.guarded import Guarded, answering, engine_reply, guarded
from tests.scripted import STALL, ReceivedRequest, Reply

VECTORS = {
    "object": "list",
    "id": "embd-1",
    "model": "/srv/models/scripted",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -1.0], "extra": 1}],
    "usage": {"prompt_tokens": 3, "total_tokens": 3, "completion_tokens": 0},
}


def ask(**fields: Any) -> dict[str, Any]:
    """A minimal request for vectors."""
    return {"model": "default", "input": "A knife.", **fields}


@asynccontextmanager
async def embedding(folder: Path, reply: Reply | None = None, **settings: Any) -> AsyncIterator[Guarded]:
    """A guard whose engine answers requests for vectors with this reply."""
    others = answering(lambda request: engine_reply())

    def engine(request: ReceivedRequest) -> Reply:
        vectors = request.path.endswith("/embeddings")
        return (reply or Reply.json(VECTORS)) if vectors else others(request)

    async with guarded(folder, **settings) as guard:
        guard.engine.otherwise(engine)
        yield guard


def asked_of(guard: Guarded) -> list[ReceivedRequest]:
    """The requests for vectors that the engine got."""
    return [request for request in guard.engine.requests if request.path.endswith("/embeddings")]


async def test_vectors_are_passed_on_and_nothing_is_recorded(tmp_path: Path) -> None:
    """The engine gets its own model name and the fields as sent; no path or extra field comes back."""
    async with embedding(tmp_path) as guard:
        status, _, body = await guard.post(
            ask(dimensions=2, user="u", encoding_format="float"), "/embeddings"
        )
        [request] = asked_of(guard)

        assert (guard.calls, await guard.records()) == ([], [])
    assert status == 200
    assert request.json == {
        "model": "scripted",
        "input": "A knife.",
        "dimensions": 2,
        "user": "u",
        "encoding_format": "float",
    }
    assert body == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -1.0]}],
        "model": "default",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }


@pytest.mark.parametrize("given", ["a", ["a", "b"], [1, 2, 3], [[1, 2], [3]]])
async def test_every_form_of_input_is_passed_on(tmp_path: Path, given: Any) -> None:
    """Nothing is answered, so token ids are as good as text."""
    async with embedding(tmp_path) as guard:
        await guard.post(ask(input=given), "/embeddings")

        assert asked_of(guard)[0].json["input"] == given


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": {"text": "x"}}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": ["x"] * 2049}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"truncate_prompt_tokens": -1}, "truncate_prompt_tokens"),
    ],
)
async def test_bad_requests_name_the_field(tmp_path: Path, fields: dict[str, Any], param: str) -> None:
    """Fields that are not on the list never reach the engine."""
    async with embedding(tmp_path) as guard:
        status, _, error = await guard.post(ask(**fields), "/embeddings")

        assert asked_of(guard) == []
    assert status == 400
    assert error["error"]["param"].startswith(param)


async def test_an_engine_without_embeddings_is_404(tmp_path: Path) -> None:
    """The engine's own 404 means that it has no such model or no such route; clients must not retry."""
    async with embedding(tmp_path, Reply.json({"detail": "Not Found"}, 404)) as guard:
        status, _, error = await guard.post(ask(model="text-embedding-3-small"), "/embeddings")

        assert asked_of(guard)[0].json["model"] == "text-embedding-3-small"
    assert (status, error["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply.json({"error": {"message": "input too long"}}, 400), 400),
        (Reply.json({"error": "busy"}, 503), 503),
        (Reply.json({"error": "Unauthorized"}, 401), 502),
        (Reply.json({"error": "boom"}, 500), 502),
        (Reply.json({"data": [{"vector": []}]}), 502),
        (Reply.json([1]), 502),
        (Reply.drop(STALL), 504),
    ],
)
async def test_failures_of_the_engine_are_mapped(tmp_path: Path, reply: Reply, status: int) -> None:
    """As for chats, in OpenAI's shape."""
    async with embedding(tmp_path, reply, engine={"first_byte_timeout": 0.5}) as guard:
        got, _, body = await guard.post(ask(), "/embeddings")

    assert got == status, body
    assert body["error"].keys() == {"message", "type", "param", "code"}


async def test_a_key_is_needed(tmp_path: Path) -> None:
    """The scope chat is what this takes."""
    key = new_key()
    keys = ({"name": "reader", "hash": hash_key(key), "scopes": ["audit"]},)
    async with embedding(tmp_path, keys=keys) as guard:
        missing, _, _ = await guard.post(ask(), "/embeddings")
        forbidden, _, _ = await guard.post(ask(), "/embeddings", authorization=f"Bearer {key}")

    assert (missing, forbidden) == (401, 403)


async def test_a_client_that_leaves_stops_the_engine(tmp_path: Path) -> None:
    """Field lesson 38: the engine's connection is dropped."""
    async with embedding(tmp_path, Reply.drop(STALL)) as guard:
        posting = asyncio.create_task(guard.post(ask(), "/embeddings"))
        while not asked_of(guard):
            await asyncio.sleep(0.01)
        posting.cancel()
        await asyncio.wait({posting})
        await asyncio.wait_for(asked_of(guard)[0].disconnected.wait(), 5)
