"""From a checked request to an exchange: what every endpoint that answers does alike."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel
from starlette.requests import Request

from guard.api.body import read_json, validate
from guard.api.request_id import new_request_id
from guard.api.state import RequestLimits, Service, caller_of, header_values, service_of
from guard.errors import InvalidRequest
from guard.keys import Caller, Scope
from guard.pipeline.exchange import Exchange
from guard.pipeline.messages import Message
from guard.rollout.snapshot import Snapshot

Asked = TypeVar("Asked", bound=BaseModel)


class Opened(NamedTuple, Generic[Asked]):
    """A request that may be answered: who asks, for what, under which policy."""

    service: Service
    caller: Caller
    asked: Asked
    snapshot: Snapshot


async def read_request(request: Request, model: type[Asked]) -> tuple[Service, Caller, Asked]:
    """Check key and body.

    Args:
        request: Its body not yet read.
        model: What the endpoint accepts.

    Raises:
        ApiError: The key or the body cannot be honoured.
    """
    service, caller = service_of(request), caller_of(request)
    caller.require(Scope.CHAT)
    limits = service.limits
    return service, caller, validate(model, await read_json(request, limits.body_bytes, limits.body_seconds))


async def open_request(request: Request, model: type[Asked]) -> Opened[Asked]:
    """Check key and body, and take the policy that is in force now.

    Args:
        request: Its body not yet read.
        model: What the endpoint accepts.

    Raises:
        ApiError: The key, the body or the policy asked for cannot be honoured.
    """
    service, caller, asked = await read_request(request, model)
    named = getattr(asked, "model", None) or ""
    wanted = header_values(request, "x-guard-policy")
    active = service.policy(caller, wanted[0] if wanted else None, named)
    return Opened(service, caller, asked, active.snapshot)


class FieldNames(NamedTuple):
    """What an endpoint calls the fields that limits are about."""

    messages: str = "messages"
    max_tokens: str = "max_tokens"
    choices: str = "n"


def new_exchange(
    endpoint: str,
    caller: Caller,
    limits: RequestLimits,
    names: FieldNames,
    *,
    model: str,
    stream: bool,
    messages: list[Message],
    choices: int = 1,
    sampling: Mapping[str, Any],
    labels: Mapping[str, Any] = MappingProxyType({}),
    response_format: Mapping[str, Any] | None = None,
    tool_choice: str | Mapping[str, Any] | None = None,
    stop: tuple[str, ...] = (),
    max_tokens: int | None = None,
    seed: int | None = None,
    probabilities: Mapping[str, Any] = MappingProxyType({}),
    enforce: bool = False,
) -> Exchange:
    """An exchange within the limits.

    Args:
        endpoint: Its name in records.
        caller: Who asks.
        limits: What one request may ask for.
        names: How the endpoint's own fields are called.
        model: As the client named it.
        stream: Whether the answer is streamed.
        messages: In the shape of chat completions.
        choices: How many answers.
        sampling: Forwarded as it is; None values are left out.
        labels: The client's own words about the request, for the record.
        response_format: In the shape of chat completions; ``text`` constrains nothing.
        tool_choice: In the shape of chat completions; one that forces a call is a constraint.
        stop: Stop sequences for the visible answer.
        max_tokens: Limit for the visible answer.
        seed: For the first choice.
        probabilities: What the engine is asked to say of the answer's tokens.
        enforce: Findings are acted on, also where the guard only observes.

    Raises:
        InvalidRequest: It asks for more than one request may, or ends with words of the assistant.
    """
    if messages and messages[-1]["role"] == "assistant":
        raise InvalidRequest(
            "The last message is the assistant's: some engines would go on with it, without any thinking. "
            "End with a user message or the result of a tool.",
            param=names.messages,
        )
    if len(messages) > limits.messages:
        raise InvalidRequest(f"At most {limits.messages} messages are allowed.", param=names.messages)
    if choices > limits.choices:
        raise InvalidRequest(f"At most {limits.choices} choices are allowed.", param=names.choices)
    if max_tokens and max_tokens > limits.max_answer_tokens:
        raise InvalidRequest(
            f"At most {limits.max_answer_tokens} tokens are allowed.", param=names.max_tokens
        )
    forwarded = {name: value for name, value in sampling.items() if value is not None}
    constraint: dict[str, Any] = {}
    if response_format and response_format["type"] != "text":
        constraint["response_format"] = response_format
    if tool_choice == "required" or isinstance(tool_choice, Mapping):
        constraint["tool_choice"] = tool_choice
    elif tool_choice is not None:
        forwarded["tool_choice"] = tool_choice
    return Exchange(
        request_id=new_request_id(),
        endpoint=endpoint,
        tenant=caller.name,
        model=model,
        stream=stream,
        messages=messages,
        started_at=datetime.now(UTC),
        started=time.perf_counter(),
        choices=choices,
        sampling=forwarded,
        labels=labels,
        constraint=constraint,
        stop=stop,
        max_tokens=max_tokens,
        seed=seed,
        probabilities=probabilities,
        enforce=enforce,
    )
