"""``POST /v1/chat/completions``."""

from __future__ import annotations

from typing import Any, cast

from starlette.requests import Request

from guard.api.admission import FieldNames, new_exchange, open_request
from guard.api.answer import StreamedAnswer, WholeAnswer
from guard.api.chat_request import ChatRequest
from guard.api.chat_response import ChunkWriter, Shape, completion
from guard.api.moderation_field import blocks
from guard.api.moderation_result import judging_model
from guard.api.state import RequestLimits, Service
from guard.keys import Caller, Scope
from guard.pipeline.exchange import Exchange
from guard.pipeline.messages import Message

FORWARDED = ("tools", "parallel_tool_calls", "reasoning_effort")
"""Beside what the endpoints have in common."""


async def chat_completions(request: Request) -> WholeAnswer | StreamedAnswer:
    """Answer a chat after deliberating over the policy."""
    opened = await open_request(request, ChatRequest)
    service, caller, asked = opened.service, opened.caller, opened.asked
    service.check_model(asked.model)
    judge = judging_model(asked.moderation, service.models())
    exchange = admit(asked, service.limits, caller)
    prepared = await service.pipeline.prepare(exchange, opened.snapshot)
    shape = Shape(
        reasoning_fields=_shown(asked, caller, service),
        include_usage=bool(asked.stream_options and asked.stream_options.include_usage),
        structured=bool(exchange.constraint.get("response_format")),
        probabilities=bool(asked.logprobs),
        judge=judge,
        blocks=exchange.enforce,
    )
    if asked.stream:
        return StreamedAnswer(service.pipeline, prepared, ChunkWriter(prepared, shape), service.ping_seconds)
    return WholeAnswer(service.pipeline, prepared, lambda choices: completion(prepared, choices, shape))


def admit(asked: ChatRequest, limits: RequestLimits, caller: Caller) -> Exchange:
    """The request as an exchange.

    Raises:
        InvalidRequest: It asks for more than one request may.
    """
    names = FieldNames(max_tokens="max_completion_tokens" if asked.max_completion_tokens else "max_tokens")
    return new_exchange(
        "chat.completions",
        caller,
        limits,
        names,
        model=asked.model,
        stream=bool(asked.stream),
        messages=cast(list[Message], asked.messages),
        choices=asked.n or 1,
        sampling={**asked.sampling, **{name: vars(asked)[name] for name in FORWARDED}},
        labels=asked.labels,
        response_format=cast(dict[str, Any] | None, asked.response_format),
        tool_choice=cast(str | dict[str, Any] | None, asked.tool_choice),
        stop=asked.stops,
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        seed=asked.seed,
        probabilities={"logprobs": True, "top_logprobs": asked.top_logprobs or 0} if asked.logprobs else {},
        enforce=blocks(asked.moderation),
    )


def _shown(asked: ChatRequest, caller: Caller, service: Service) -> tuple[str, ...]:
    if Scope.REASONING not in caller.scopes or asked.include_reasoning is False:
        return ()
    return service.reasoning_fields
