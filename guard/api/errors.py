"""Errors as OpenAI writes them, and as Anthropic does on its routes."""

from __future__ import annotations

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from guard.api.messages_errors import is_messages, messages_error, messages_status
from guard.api.request_id import new_request_id
from guard.errors import ApiError, AuditError, BodyTooLarge, BodyTooSlow, Overloaded, Unauthenticated

log = structlog.get_logger(__name__)


def api_error(request: Request, error: Exception) -> Response:
    """A typed error."""
    assert isinstance(error, ApiError)
    headers = {}
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, Overloaded) and error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    if isinstance(error, BodyTooLarge | BodyTooSlow):
        headers["connection"] = "close"  # so that the rest of the body is not waited for
    if error.status >= 500:
        log.warning(
            "request failed",
            path=request.url.path,
            status=error.status,
            code=error.code,
            reason=" | ".join(reasons(error)),
        )
    return _answer(request, error.status, error.body(), headers)


def reasons(error: ApiError) -> list[str]:
    """What the client is told, then what only the log says."""
    return [error.message, *getattr(error, "__notes__", ())]


def audit_error(request: Request, error: Exception) -> Response:
    """The store failed: an answer without its record is not released, and records cannot be read."""
    if request.method == "POST":
        return api_error(request, unrecorded(error))
    told = Overloaded("The records cannot be reached now. Try again later.", code="audit_unavailable")
    told.add_note(f"audit: {error}")
    return api_error(request, told)


def unrecorded(error: Exception) -> Overloaded:
    """What a client is told where the audit failed; why it did is for the log."""
    told = Overloaded(
        "The answer could not be recorded, so it is not released. Try again later.",
        code="audit_unavailable",
    )
    told.add_note(f"audit: {error}")
    return told


def http_error(request: Request, error: Exception) -> Response:
    """No such route or method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        message = f"There is no route {request.method} {request.url.path}."
    elif error.status_code == 405:
        message = f"{request.url.path} does not take {request.method}."
    else:
        message = error.detail
    kind = "not_found_error" if error.status_code == 404 else "invalid_request_error"
    return _plain(request, error.status_code, message, kind, None, dict(error.headers or {}))


def bug(request: Request, error: Exception) -> Response:
    """Anything else is a defect of the guard: logged whole, told in one line with an id to find it."""
    reference = new_request_id()
    log.error("bug", path=request.url.path, reference=reference, exc_info=error)
    message = f"The guard failed on this request (reference {reference})."
    return _plain(request, 500, message, "server_error", "bug")


EXCEPTION_HANDLERS = {
    ApiError: api_error,
    AuditError: audit_error,
    HTTPException: http_error,
    Exception: bug,
}


def _plain(
    request: Request,
    status: int,
    message: str,
    kind: str,
    code: str | None,
    headers: dict[str, str] | None = None,
) -> Response:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return _answer(request, status, {"error": error}, headers)


def _answer(
    request: Request,
    status: int,
    body: dict[str, dict[str, str | None]],
    headers: dict[str, str] | None = None,
) -> Response:
    """The error in the shape of the route's own protocol."""
    if not is_messages(request.url.path):
        return JSONResponse(body, status, headers)
    error = body["error"]
    shaped = messages_error(status, error["message"] or "", error["param"])
    return JSONResponse(shaped, messages_status(status), headers)
