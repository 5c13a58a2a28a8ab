"""Errors as Anthropic writes them: ``{"type": "error", "error": {"type", "message"}}``."""

from __future__ import annotations

from typing import Any

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STATUSES = {503: 529}
"""Where Anthropic's status for the same thing is another; its clients know it as *overloaded*."""


def is_messages(path: str) -> bool:
    """Whether a route speaks Anthropic's protocol."""
    return path == "/v1/messages" or path.startswith("/v1/messages/")


def messages_status(status: int) -> int:
    """The HTTP status with which Anthropic's API says the same."""
    return _STATUSES.get(status, status)


def messages_error(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    """The JSON body of an error.

    Args:
        status: The guard's status for it.
        message: What the client is told.
        param: The field it is about; Anthropic's errors name it in the message.
    """
    if param and not message.startswith(f"{param}:"):
        message = f"{param}: {message}"
    kind = _KINDS.get(messages_status(status), "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}}
