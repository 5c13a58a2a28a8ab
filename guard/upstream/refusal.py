"""What an engine's error answer means for the client, as one of the guard's errors.

Engines disagree on the shape: vLLM sends ``{"error": {…}}`` and, for a wrong key, ``{"error": "…"}``;
FastAPI servers such as transformers serve send ``{"detail": …}``; proxies send text. The meaning is in
the status: what the client can mend comes back with the engine's own words, what the operator must
mend says so without them. The engine's words are always kept as a note on the exception, for the log.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import orjson

from guard.errors import ApiError, InvalidRequest, Overloaded, UpstreamError

_PATH = re.compile(r"(?<![\w/.:])/(?:[\w.@+-]+/)+[\w.@+-]*")
_INPUT = re.compile(r"[\s,;({\[]*(?:['\"](?:input|ctx)['\"]\s*:|input_value\s*=).*", re.DOTALL)
"""Where a validation error begins to repeat the request, which holds the policy."""
_LONGEST = 500


class EngineWords(NamedTuple):
    """What an engine said, whatever the shape."""

    message: str
    param: str | None = None
    code: str | None = None


def read_words(body: bytes) -> EngineWords:
    """The message in an engine's error body; the text itself where it has no known shape."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return EngineWords(body.decode("utf-8", "replace"))
    return words_of(value)


def words_of(value: object) -> EngineWords:
    """The message in a decoded error: a text, OpenAI's object, FastAPI's details."""
    if isinstance(value, str):
        return EngineWords(value)
    if isinstance(value, dict):
        for key in ("error", "detail"):
            if value.get(key):
                return words_of(value[key])
        message = value.get("message", value.get("msg"))
        if isinstance(message, str):
            param, code = value.get("param"), value.get("code")
            return EngineWords(
                message,
                param if isinstance(param, str) else None,
                code if isinstance(code, str) else None,
            )
    if isinstance(value, list) and value:
        return words_of(value[0])
    return EngineWords(orjson.dumps(value).decode())


def refusal(status: int, body: bytes, retry_after: str | None = None) -> ApiError:
    """The error for an answer whose status is not 200.

    Args:
        status: The engine's HTTP status.
        body: The engine's body, possibly cut.
        retry_after: The engine's ``Retry-After`` header.
    """
    words = read_words(body)
    error = _classified(status, words, retry_after)
    error.add_note(f"engine: HTTP {status}: {words.message[:2000]}")
    if isinstance(error, UpstreamError):
        error.engine_status = status
    return error


def _classified(status: int, words: EngineWords, retry_after: str | None) -> ApiError:
    if status in {400, 413, 422}:
        return InvalidRequest(_presentable(words.message), param=words.param, code=words.code)
    if status in {401, 403}:
        return UpstreamError(
            f"The engine refused the guard's key (HTTP {status}). "
            "The operator must set the key that the engine expects.",
            code="engine_misconfigured",
        )
    if status == 404 or 300 <= status < 400:
        return UpstreamError(
            f"The engine does not know the address or the model it was asked for (HTTP {status}). "
            "The operator must check the engine's base URL and model name.",
            code="engine_misconfigured",
        )
    if status in {429, 503}:
        return Overloaded(
            "The engine cannot take the request now. Try again later.",
            code="engine_overloaded",
            retry_after=_seconds(retry_after),
        )
    return UpstreamError(f"The engine failed (HTTP {status}).", code="engine_failed")


def failed_while_answering(value: object) -> UpstreamError:
    """The error for ``data: {"error": …}`` inside a stream that began well."""
    error = UpstreamError("The engine failed while it was answering.", code="engine_failed")
    error.add_note(f"engine: {words_of(value).message[:2000]}")
    return error


def _presentable(message: str) -> str:
    """An engine's words for a client: one line, no file paths, nothing of the request, not endless."""
    line = _PATH.sub("[path]", " ".join(_INPUT.sub("", message).split()))
    if not line:
        return "The engine refused the request as invalid."
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _seconds(retry_after: str | None) -> int | None:
    """``Retry-After``, in either of its forms, as whole seconds from now."""
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return min(int(retry_after), 86_400)
    try:
        when = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0, round((when - datetime.now(UTC)).total_seconds()))
