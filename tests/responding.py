"""Requests to ``/v1/responses``, each checked as far as every answer can be."""

from __future__ import annotations

from typing import Any

import orjson

from tests.guarded import Guarded
from tests.responses_stream import Data, ResponseEvents, check_response, read_events


def request(content: Any = "How do I sharpen a knife?", **fields: Any) -> Data:
    """A minimal request."""
    return {"model": "default", "input": content, **fields}


async def respond(guard: Guarded, content: Any = "How do I sharpen a knife?", **fields: Any) -> Data:
    """The response object of a request that must succeed."""
    headers = fields.pop("headers", {})
    status, _, body = await guard.post(request(content, **fields), "/responses", **headers)
    assert status == 200, body
    return check_response(body)


async def stream(guard: Guarded, content: Any = "How do I sharpen a knife?", **fields: Any) -> ResponseEvents:
    """A streamed response that keeps every rule."""
    headers = fields.pop("headers", {})
    data = orjson.dumps(request(content, stream=True, **fields))
    async with guard.session.post(f"{guard.url}/responses", data=data, headers=headers) as response:
        raw = await response.read()
        assert response.status == 200, raw
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        return read_events(raw)


def visible(output: list[Data]) -> list[Data]:
    """The items that are no reasoning; without keys everybody may see the thinking."""
    return [item for item in output if item["type"] != "reasoning"]


def bearer(key: str) -> dict[str, str]:
    """The header that sends a key."""
    return {"authorization": f"Bearer {key}"}


async def call(
    guard: Guarded, method: str, path: str, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Status and body of a request about a response that was given before."""
    url = f"{guard.url}/responses/{path}"
    async with guard.session.request(method, url, headers=headers) as response:
        return response.status, await response.json()
