"""Reading a request body."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request

from guard.api.body import DEEPEST, read_json
from guard.errors import InvalidRequest


async def _read(body: bytes, kind: str | None = "application/json", *more: str) -> Any:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", name.encode()) for name in (kind, *more) if name is not None]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    return await read_json(Request(scope, receive), 10_000_000, 10)


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x.y+json ; v=1"]
)
async def test_json_is_read_under_all_its_names(kind: str) -> None:
    """Letter case and parameters do not matter."""
    assert await _read(b"[1]", kind) == [1]


@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"]
)
async def test_what_a_web_page_could_send_unasked_is_refused(kind: str | None) -> None:
    """Otherwise any page in a browser could use a guard on the same machine."""
    with pytest.raises(InvalidRequest, match="Content-Type"):
        await _read(b"[1]", kind)


async def test_of_two_content_types_the_first_counts() -> None:
    """A second one makes no form of a web page into JSON."""
    assert await _read(b"[1]", "application/json", "text/plain") == [1]
    with pytest.raises(InvalidRequest, match="Content-Type"):
        await _read(b"[1]", "text/plain", "application/json")


async def test_of_a_repeated_key_the_last_value_counts() -> None:
    """And it is the only one that anybody sees."""
    assert await _read(b'{"a": 1, "a": {"b": 2, "b": 3}}') == {"a": {"b": 3}}


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"0x10", b"01"])
async def test_what_is_no_number_in_json_is_refused(number: bytes) -> None:
    """No reader after this one could be given it."""
    with pytest.raises(InvalidRequest, match="JSON"):
        await _read(b'{"a": ' + number + b"}")


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
