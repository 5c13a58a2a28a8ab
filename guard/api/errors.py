"""Errors as OpenAI writes them."""

from __future__ import annotations

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from guard.api.request_id import new_request_id
from guard.errors import ApiError, AuditError, Overloaded, Unauthenticated

log = structlog.get_logger(__name__)


def api_error(request: Request, error: Exception) -> Response:
    """A typed error."""
    assert isinstance(error, ApiError)
    headers = {}
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, Overloaded) and error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    if error.status >= 500:
        log.warning(
            "request failed",
            path=request.url.path,
            status=error.status,
            code=error.code,
            reason=" | ".join([error.message, *getattr(error, "__notes__", ())]),
        )
    return JSONResponse(error.body(), error.status, headers)


def audit_error(request: Request, error: Exception) -> Response:
    """An answer whose record could not be made durable is not released."""
    log.error("audit failed", path=request.url.path, reason=str(error))
    message = "The answer could not be recorded, so it is not released. Try again later."
    return _plain(503, message, "server_error", "audit_unavailable")


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
    return _plain(error.status_code, message, kind, None, dict(error.headers or {}))


def bug(request: Request, error: Exception) -> Response:
    """Anything else is a defect of the guard: logged whole, told in one line with an id to find it."""
    reference = new_request_id()
    log.error("bug", path=request.url.path, reference=reference, exc_info=error)
    return _plain(500, f"The guard failed on this request (reference {reference}).", "server_error", "bug")


EXCEPTION_HANDLERS = {
    ApiError: api_error,
    AuditError: audit_error,
    HTTPException: http_error,
    Exception: bug,
}


def _plain(
    status: int, message: str, kind: str, code: str | None, headers: dict[str, str] | None = None
) -> Response:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return JSONResponse({"error": error}, status, headers)
