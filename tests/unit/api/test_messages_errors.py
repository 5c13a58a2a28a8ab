"""Errors on the routes that speak Anthropic's protocol."""

from __future__ import annotations

import pytest

from guard.api.messages_errors import is_messages, messages_error, messages_status


@pytest.mark.parametrize(
    ("status", "told", "kind"),
    [
        (400, 400, "invalid_request_error"),
        (401, 401, "authentication_error"),
        (403, 403, "permission_error"),
        (404, 404, "not_found_error"),
        (413, 413, "request_too_large"),
        (429, 429, "rate_limit_error"),
        (500, 500, "api_error"),
        (502, 502, "api_error"),
        (503, 529, "overloaded_error"),
        (504, 504, "timeout_error"),
    ],
)
def test_every_status_has_its_kind(status: int, told: int, kind: str) -> None:
    """What the guard calls 503 is Anthropic's 529; every other status stays."""
    assert messages_status(status) == told
    assert messages_error(status, "Why.") == {"type": "error", "error": {"type": kind, "message": "Why."}}


@pytest.mark.parametrize(
    ("message", "told"),
    [("At most 8 are allowed.", "n: At most 8 are allowed."), ("n: is required", "n: is required")],
)
def test_the_field_is_named_once(message: str, told: str) -> None:
    """Anthropic's errors have no place for the field but the message."""
    assert messages_error(400, message, "n")["error"]["message"] == told


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/v1/messages", True),
        ("/v1/messages/count_tokens", True),
        ("/v1/messages/batches", True),
        ("/v1/messagesx", False),
        ("/v1/chat/completions", False),
    ],
)
def test_only_anthropics_routes_get_its_shape(path: str, wanted: bool) -> None:
    """All other routes answer as OpenAI does."""
    assert is_messages(path) is wanted
