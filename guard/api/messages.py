"""``POST /v1/messages`` and ``POST /v1/messages/count_tokens``, as Anthropic has them.

The guard translates by itself, so that every engine that speaks chat completions will do, and the
request is deliberated, checked and recorded as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from guard.api.admission import FieldNames, Opened, new_exchange, open_request
from guard.api.answer import StreamedAnswer, WholeAnswer, guard_headers
from guard.api.messages_request import Conversation, MessagesRequest
from guard.api.messages_response import EventWriter, message
from guard.api.messages_tokens import estimated_tokens
from guard.api.messages_translation import (
    chat_effort,
    chat_messages,
    chat_response_format,
    chat_tool_choice,
    chat_tools,
)
from guard.keys import Scope
from guard.pipeline.exchange import Exchange

FORWARDED = ("temperature", "top_p", "top_k")
AnyConversation = TypeVar("AnyConversation", bound=Conversation)


async def messages(request: Request) -> WholeAnswer | StreamedAnswer:
    """Answer a conversation after deliberating over the policy."""
    opened = await open_request(request, MessagesRequest)
    service, asked = opened.service, opened.asked
    service.check_model(asked.model)
    prepared = await service.pipeline.prepare(admit(opened), opened.snapshot)
    shown = _shows_thinking(opened)
    if not asked.stream:
        return WholeAnswer(
            service.pipeline, prepared, lambda choices: message(prepared, choices[0], show_thinking=shown)
        )
    writer = EventWriter(
        prepared, show_thinking=shown, input_tokens=estimated_tokens(prepared.system, prepared.exchange)
    )
    return StreamedAnswer(service.pipeline, prepared, writer, service.ping_seconds, ping=writer.ping)


async def count_tokens(request: Request) -> Response:
    """How many tokens a conversation takes, the policy in its prompt included; asks no engine."""
    opened = await open_request(request, Conversation)
    opened.service.check_model(opened.asked.model)
    prepared = await opened.service.pipeline.prepare(_exchange(opened), opened.snapshot)
    tokens = estimated_tokens(prepared.system, prepared.exchange)
    return JSONResponse({"input_tokens": tokens}, headers=guard_headers(prepared))


def admit(opened: Opened[MessagesRequest]) -> Exchange:
    """The request as an exchange.

    Raises:
        InvalidRequest: It asks for more than one request may.
    """
    asked = opened.asked
    user = asked.metadata.get("user_id") if asked.metadata else None
    return _exchange(
        opened,
        stream=bool(asked.stream),
        sampling={
            **{name: getattr(asked, name) for name in FORWARDED},
            "top_k": asked.top_k or None,
            "user": user,
        },
        labels={"user": user} if user else {},
        stop=tuple(asked.stop_sequences or ()),
        max_tokens=asked.max_tokens,
    )


def _exchange(
    opened: Opened[AnyConversation],
    *,
    stream: bool = False,
    sampling: Mapping[str, Any] = MappingProxyType({}),
    labels: Mapping[str, Any] = MappingProxyType({}),
    stop: tuple[str, ...] = (),
    max_tokens: int | None = None,
) -> Exchange:
    """What both routes translate alike."""
    asked = opened.asked
    choice = asked.tool_choice
    single = bool(choice and choice.get("disable_parallel_tool_use"))
    return new_exchange(
        "messages",
        opened.caller,
        opened.service.limits,
        FieldNames(),
        model=asked.model,
        stream=stream,
        messages=chat_messages(asked),
        sampling={
            **sampling,
            "tools": chat_tools(asked),
            "parallel_tool_calls": False if single else None,
            "reasoning_effort": chat_effort(asked),
        },
        labels=labels,
        response_format=chat_response_format(asked),
        tool_choice=chat_tool_choice(choice),
        stop=stop,
        max_tokens=max_tokens,
    )


def _shows_thinking(opened: Opened[MessagesRequest]) -> bool:
    """The client asks for it, and key and operator let it."""
    wanted = opened.asked.thinking
    if wanted is None or wanted["type"] == "disabled" or wanted.get("display") == "omitted":
        return False
    return Scope.REASONING in opened.caller.scopes and bool(opened.service.reasoning_fields)
