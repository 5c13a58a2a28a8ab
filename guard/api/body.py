"""Read a request body: bounded, JSON, validated; every fault names the field."""

from __future__ import annotations

import asyncio
import re
from typing import Any, NamedTuple, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from guard.errors import BodyTooLarge, BodyTooSlow, InvalidRequest

Model = TypeVar("Model", bound=BaseModel)

_JSON = re.compile(rb"application/(?:[\w.-]+\+)?json", re.IGNORECASE)
DEEPEST = 100
"""Levels of arrays and objects in a body: above what any schema needs, below what reading it again takes."""


async def read_json(request: Request, limit: int, seconds: float) -> Any:
    """The body as decoded JSON; of a key that stands twice in an object, the last value.

    What comes out is what is validated, searched, recorded and written again for the engine, so that
    no two readers of one body can disagree.

    Args:
        request: Its body not yet read.
        limit: Bytes; no more than that is read.
        seconds: The time that the body may take to arrive.

    Raises:
        BodyTooLarge: It is over the limit.
        BodyTooSlow: It did not arrive in time.
        InvalidRequest: It is not JSON.
    """
    # A look-up by name would go through all of them each time; of one that was sent twice the first counts.
    headers = dict(reversed(request.headers.raw))
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    if not _JSON.fullmatch(headers.get(b"content-type", b"").partition(b";")[0].strip()):
        # A page in a browser may send anything else to this address without asking.
        raise InvalidRequest("Send JSON, with the header 'Content-Type: application/json'.")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise InvalidRequest("Compressed request bodies are not accepted; send plain JSON.")
    try:
        async with asyncio.timeout(seconds):
            body = await _read(request, limit)
    except TimeoutError as error:
        raise BodyTooSlow("The request body did not arrive in time.", code="body_too_slow") from error
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The request body is not valid JSON: {error}.", code="invalid_json") from error
    if body.count(b"[") + body.count(b"{") > DEEPEST and _is_deep(value):
        raise InvalidRequest(
            f"The request body is nested more than {DEEPEST} levels deep.", code="invalid_json"
        )
    return value


async def _read(request: Request, limit: int) -> bytearray:
    """The body; without ``Request.stream``, for the loop keeps book of every generator."""
    body = bytearray()
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise InvalidRequest("The connection was closed inside the request body.")
        body += message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        more = message.get("more_body", False)
    return body


def validate(model: type[Model], value: Any) -> Model:
    """The value as a request model.

    Raises:
        InvalidRequest: Names the first field at fault in ``param`` and all of them in the message.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = [
            Fault(_path(item["loc"]), _text(item), item["type"])
            for item in error.errors(include_url=False, include_input=False)
        ]
        texts = dict.fromkeys(
            fault.text if not fault.path else f"{fault.path}: {fault.text}" for fault in faults
        )
        first = faults[0]
        code = "unknown_parameter" if first.kind == "extra_forbidden" else "invalid_value"
        named = first.path or first.text.partition(":")[0]
        param = named if named.split(".")[0] in {*model.model_fields, *extra_fields(value)} else None
        raise InvalidRequest("; ".join(list(texts)[:10]), param=param, code=code) from error


class Fault(NamedTuple):
    """One thing wrong with a request."""

    path: str
    """The field in dotted form; empty where a rule over several fields is broken (the text names it)."""
    text: str
    kind: str


def extra_fields(value: Any) -> list[str]:
    """The fields that a client sent, whatever they are."""
    return list(value) if isinstance(value, dict) else []


def _is_deep(value: Any) -> bool:
    """Whether containers lie in each other beyond the limit; a level at a time, so that no stack grows."""
    level = [value]
    for _ in range(DEEPEST):
        inside = (item.values() if isinstance(item, dict) else item for item in level)
        level = [child for children in inside for child in children if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is over {limit} bytes.", code="body_too_large")


def _path(location: tuple[int | str, ...]) -> str:
    """A field's path as a client writes it: pydantic's names of union members left out."""
    return ".".join(str(part) for part in location if not (isinstance(part, str) and part.startswith("~")))


def _text(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        return "this field is not supported by the guard, and nothing is dropped silently"
    if fault["type"] == "missing":
        return "this field is required"
    return str(fault["msg"].removeprefix("Value error, ")).rstrip(".")
