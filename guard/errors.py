"""Every error the guard raises on purpose, and what a client is told about it.

    GuardError
    ├── ConfigError            start-up: a setting cannot be used
    ├── PolicyError            start-up or reload: the policy has problems (all of them listed)
    ├── AuditError             the audit store cannot take or give a record
    └── ApiError               ends a request; knows its status and OpenAI error shape
        ├── InvalidRequest     400, names the field
        ├── Unauthenticated    401
        ├── Forbidden          403
        ├── NotFound           404
        ├── BodyTooSlow        408
        ├── BodyTooLarge       413
        ├── Overloaded         503
        └── UpstreamError      502, the engine failed
            └── UpstreamTimeout  504

Nothing returns an error as a value. Code at a boundary (socket, database, file) converts what it
catches into one of these with ``raise ... from``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class GuardError(Exception):
    """Base of every error raised on purpose."""


class ConfigError(GuardError):
    """A setting is missing, unknown or contradicts another; the text says which and what to do."""


class AuditError(GuardError):
    """The audit store could not write or read a record."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong with a policy, at the place where an author can mend it."""

    file: str
    line: int
    """1-based; 0 where the whole file or folder is meant."""
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


class PolicyError(GuardError):
    """A policy that cannot be used; ``problems`` holds every reason, in file order."""

    def __init__(self, problems: list[Problem]) -> None:
        """Keep the problems, sorted by file and line."""
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ApiError(GuardError):
    """An error that a client sees, in OpenAI's shape."""

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "server_error"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        """Keep what the client is told.

        Args:
            message: One sentence: what is wrong and what to do.
            param: The request field it is about, in dotted form (``messages.0.role``).
            code: OpenAI's machine-readable reason, such as ``model_not_found``.
        """
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code

    def body(self) -> dict[str, dict[str, str | None]]:
        """The JSON body: ``{"error": {"message", "type", "param", "code"}}``."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}


class InvalidRequest(ApiError):
    """The request cannot be honoured as it is."""

    status = 400
    kind = "invalid_request_error"


class Unauthenticated(ApiError):
    """No key, or one that is not known."""

    status = 401
    kind = "authentication_error"


class Forbidden(ApiError):
    """The key lacks the scope."""

    status = 403
    kind = "permission_error"


class NotFound(ApiError):
    """No such model, policy, record or route."""

    status = 404
    kind = "not_found_error"


class BodyTooSlow(ApiError):
    """The request body did not arrive in time."""

    status = 408
    kind = "invalid_request_error"


class BodyTooLarge(ApiError):
    """The request body is over the configured limit."""

    status = 413
    kind = "invalid_request_error"


class Overloaded(ApiError):
    """The guard or the engine cannot take the request now; try again later."""

    status = 503
    kind = "server_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        """Keep what the client is told.

        Args:
            message: As for every ``ApiError``.
            param: As for every ``ApiError``.
            code: As for every ``ApiError``.
            retry_after: Seconds after which trying again makes sense; unknown when left out.
        """
        super().__init__(message, param=param, code=code)
        self.retry_after = retry_after


class UpstreamError(ApiError):
    """The engine refused, failed, or sent what cannot be understood."""

    status = 502
    kind = "upstream_error"
    engine_status: int | None = None
    """The engine's own HTTP status, where it gave one."""


class UpstreamTimeout(UpstreamError):
    """The engine did not answer in time."""

    status = 504
