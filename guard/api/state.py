"""What the endpoints work with; built once by guard.app."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from starlette.requests import Request

from guard.audit.responses import ResponseStore
from guard.audit.store import AuditStore
from guard.config import is_loopback
from guard.errors import NotFound, Unauthenticated
from guard.keys import Caller, KeyRing
from guard.pipeline.pipeline import Pipeline
from guard.rollout.active import ActivePolicy
from guard.telemetry import Metrics


@dataclass(frozen=True)
class RequestLimits:
    """What one request may ask for."""

    body_bytes: int
    body_seconds: float
    choices: int
    messages: int
    max_answer_tokens: int


@dataclass(frozen=True)
class ServiceStatus:
    """Whether the guard can answer, and why not."""

    ready: bool
    detail: Mapping[str, object]


@dataclass(frozen=True)
class Service:
    """The collaborators of every endpoint."""

    keys: KeyRing
    policies: Mapping[str, ActivePolicy]
    """By name; the first is the default."""
    pipeline: Pipeline
    records: AuditStore
    responses: ResponseStore
    """What clients come back to by its id."""
    models: Callable[[], tuple[str, ...]]
    """Names under which the engine's model is offered; ``default`` is always the first."""
    post_json: Callable[[str, Mapping[str, object]], Awaitable[Any]]
    """Sends a request that no policy is about to a path of the engine; gives its JSON."""
    limits: RequestLimits
    reasoning_fields: tuple[str, ...]
    ping_seconds: float
    metrics: Metrics
    status: Callable[[], ServiceStatus]

    def policy(self, caller: Caller, wanted: str | None) -> ActivePolicy:
        """The policy for a request: the key's, else the one asked for, else the default.

        Raises:
            NotFound: There is no such policy, or the key is bound to another one.
        """
        name = caller.policy or wanted or next(iter(self.policies))
        if name not in self.policies or (caller.policy and wanted and wanted != caller.policy):
            offered = [caller.policy] if caller.policy else list(self.policies)
            raise NotFound(
                f"There is no policy {wanted or name!r}. Available: {', '.join(offered)}.",
                param="x-guard-policy",
                code="policy_not_found",
            )
        return self.policies[name]

    def check_model(self, name: str) -> None:
        """Go on only with a model that is offered.

        Raises:
            NotFound: Lists those that are.
        """
        models = self.models()
        if name not in models:
            raise NotFound(
                f"The model {name!r} does not exist. Available: {', '.join(models)}.",
                param="model",
                code="model_not_found",
            )


def caller_of(request: Request) -> Caller:
    """Who sends a request, by the headers of OpenAI's or of Anthropic's clients.

    Raises:
        Unauthenticated: There is no known key, or more than one of a kind: a proxy in front may have
            checked the other. Or keys are off, and the request came in at an address that other
            machines reach.
    """
    given: list[str | None] = []
    for name in (b"authorization", b"x-api-key"):
        values = [value for key, value in request.headers.raw if key == name]
        if len(values) > 1:
            raise Unauthenticated(
                f"The header '{name.decode()}' was sent more than once.", code="invalid_api_key"
            )
        given.append(values[0].decode("latin-1") if values else None)
    keys = service_of(request).keys
    if keys.off and not is_loopback((request.scope.get("server") or ("",))[0]):
        raise Unauthenticated(
            "This address can be reached from other machines, so the operator must configure keys: "
            "see 'guard key new'.",
            code="keys_needed",
        )
    return keys.caller(*given)


def service_of(request: Request) -> Service:
    """The service that this request's app was built with."""
    return cast(Service, request.app.state.service)
