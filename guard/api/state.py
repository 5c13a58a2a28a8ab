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
from guard.metrics import Metrics
from guard.pipeline.pipeline import Pipeline
from guard.rollout.active import ActivePolicy

POLICY_MARK = "@"
"""Between a model's name and a policy's, for clients that can send no header of their own."""


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

    def policy(self, caller: Caller, wanted: str | None, model: str = "") -> ActivePolicy:
        """The policy for a request: the key's, else the one asked for, else the default.

        Args:
            caller: Who asks.
            wanted: The policy that a header asks for, if one does.
            model: The model asked for, which may name a policy as well (``default@strict``).

        Raises:
            NotFound: There is no such policy, or key, header and model do not agree on one.
        """
        asked = {name for name in (caller.policy, wanted, self._split(model)[1]) if name}
        name = next(iter(asked), next(iter(self.policies)))
        if len(asked) > 1 or name not in self.policies:
            offered = self._open_to(caller)
            unmet = sorted(asked - {caller.policy})
            raise NotFound(
                f"There is no policy {' and '.join(map(repr, unmet))}. Available: {', '.join(offered)}.",
                param="x-guard-policy",
                code="policy_not_found",
            )
        return self.policies[name]

    def offered_models(self, caller: Caller) -> tuple[str, ...]:
        """The names that a client may ask for; where several policies are served, one for each it may use."""
        if len(self.policies) == 1:
            return self.models()
        models, policies = self.models(), self._open_to(caller)
        return (*models, *(f"{model}{POLICY_MARK}{name}" for model in models for name in policies))

    def check_model(self, name: str) -> None:
        """Go on only with a model that is offered.

        Raises:
            NotFound: Lists those that are.
        """
        models = self.models()
        if self._split(name)[0] not in models:
            raise NotFound(
                f"The model {name!r} does not exist. Available: {', '.join(models)}.",
                param="model",
                code="model_not_found",
            )

    def _open_to(self, caller: Caller) -> list[str]:
        """The policies that a key may choose among."""
        return [caller.policy] if caller.policy else list(self.policies)

    def _split(self, model: str) -> tuple[str, str]:
        """A model's own name, and the policy named with it where several are served."""
        own, mark, policy = model.rpartition(POLICY_MARK)
        return (own, policy) if mark and len(self.policies) > 1 and own in self.models() else (model, "")


def caller_of(request: Request) -> Caller:
    """Who sends a request, by the headers of OpenAI's or of Anthropic's clients.

    Raises:
        Unauthenticated: There is no known key, or more than one of a kind: a proxy in front may have
            checked the other. Or keys are off, and the request came in at an address that other
            machines reach.
    """
    given: list[str | None] = []
    for name in ("authorization", "x-api-key"):
        values = header_values(request, name)
        if len(values) > 1:
            raise Unauthenticated(f"The header '{name}' was sent more than once.", code="invalid_api_key")
        given.append(values[0] if values else None)
    keys = service_of(request).keys
    if keys.off and not is_loopback((request.scope.get("server") or ("",))[0]):
        raise Unauthenticated(
            "This address can be reached from other machines, so the operator must configure keys: "
            "see 'guard key new'.",
            code="keys_needed",
        )
    return keys.caller(*given)


def header_values(request: Request, name: str) -> list[str]:
    """The values of a header, whose name is in lower case, as often as it was sent."""
    sought = name.encode()
    return [value.decode("latin-1") for key, value in request.headers.raw if key == sought]


def service_of(request: Request) -> Service:
    """The service that this request's app was built with."""
    return cast(Service, request.app.state.service)
