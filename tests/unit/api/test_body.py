"""Reading a request body."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request

from guard.api.body import DEEPEST, read_json
from guard.errors import InvalidRequest


async def _read(body: bytes) -> Any:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    return await read_json(Request(scope, receive), 10_000_000)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
async def test_the_deepest_body_is_read_and_the_next_refused(opening: bytes, closing: bytes) -> None:
    """A body that could not be written again later is refused at once."""
    inner = b"[]" if opening == b"[" else b"{}"
    levels = DEEPEST - 1
    assert await _read(opening * levels + inner + closing * levels)
    with pytest.raises(InvalidRequest, match="deep"):
        await _read(opening * (levels + 1) + inner + closing * (levels + 1))


async def test_a_wide_body_is_not_deep() -> None:
    """Many small objects are no nesting, and brackets in texts are text."""
    assert len(await _read(b"[" + b",".join([b'{"a": ["[[[["]}'] * 5000) + b"]")) == 5000


@pytest.mark.parametrize("body", [b"3", b'"text"', b"null", b'"' + b"[" * 200 + b'"'])
async def test_a_bare_value_is_read(body: bytes) -> None:
    """It is for the endpoint's model to say that it wants an object."""
    await _read(body)


async def test_half_of_a_surrogate_pair_is_no_json() -> None:
    """Text that no UTF-8 can hold never gets in."""
    with pytest.raises(InvalidRequest, match="JSON"):
        await _read(b'"\\ud800"')
