"""``/v1/responses``: answer, and what was answered before by its id."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ASGIScope

from guard.api.admission import FieldNames, new_exchange, open_request
from guard.api.answer import StreamedAnswer, WholeAnswer
from guard.api.moderation_field import blocks
from guard.api.moderation_result import judging_model, response_moderation
from guard.api.responses_ids import response_id
from guard.api.responses_items import kept_items
from guard.api.responses_messages import chat_tool_choice, chat_tools, messages_of, response_format
from guard.api.responses_object import without_thinking
from guard.api.responses_output import Shown
from guard.api.responses_request import ResponsesRequest
from guard.api.responses_stored import StoredItems, reachable
from guard.api.responses_write import ResponseWriter
from guard.api.state import RequestLimits, Service, caller_of, service_of
from guard.audit.responses import StoredResponse
from guard.errors import ApiError, InvalidRequest, NotFound
from guard.keys import Caller, Scope
from guard.pipeline.exchange import Exchange
from guard.pipeline.messages import Message

FORWARDED = ("parallel_tool_calls",)
"""Beside what the endpoints have in common."""
_NAMES = FieldNames(messages="input", max_tokens="max_output_tokens")
_OWN_NAMES = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
}
_LISTED = 20
_MOST_LISTED = 100


class OwnNames:
    """An answer whose errors name this endpoint's fields, not those of the chat that it is made with."""

    def __init__(self, answer: ASGIApp) -> None:
        """Nothing runs before the answer is sent."""
        self._answer = answer

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Run the answer."""
        with own_names():
            await self._answer(scope, receive, send)


@contextmanager
def own_names() -> Iterator[None]:
    """Let errors name this endpoint's fields."""
    try:
        yield
    except ApiError as error:
        if error.param is not None:
            name, dot, rest = error.param.partition(".")
            error.param = _OWN_NAMES.get(name, name) + dot + rest
        raise


async def create_response(request: Request) -> OwnNames:
    """Answer after deliberating over the policy."""
    opened = await open_request(request, ResponsesRequest)
    service, caller, asked = opened.service, opened.caller, opened.asked
    service.check_model(asked.model)
    stored = StoredItems(service.responses, caller.name, service.limits)
    given = await stored.resolved(cast(str | list[dict[str, Any]], asked.input))
    judge = judging_model(asked.moderation, service.models())
    earlier = await stored.before(asked.previous_response_id)
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    messages = messages_of(asked.instructions, [*earlier, *items])
    exchange = admit(asked, messages, service.limits, caller)
    with own_names():
        prepared = await service.pipeline.prepare(exchange, opened.snapshot)
    kept = kept_items(given, response_id(exchange.request_id))
    shown = _shown(asked, caller, service)
    moderated = (lambda choice: response_moderation(prepared, choice, judge)) if judge else None
    writer = ResponseWriter(exchange, asked, kept, shown, service.responses, moderated)
    if asked.stream:
        ping = service.ping_seconds
        return OwnNames(StreamedAnswer(service.pipeline, prepared, writer, ping, keep=writer.keep))
    return OwnNames(WholeAnswer(service.pipeline, prepared, writer.whole, keep=writer.keep_whole))


def admit(
    asked: ResponsesRequest, messages: list[Message], limits: RequestLimits, caller: Caller
) -> Exchange:
    """The request as an exchange.

    Args:
        asked: The request.
        messages: Its whole conversation.
        limits: What one request may ask for.
        caller: Who asks.

    Raises:
        InvalidRequest: It asks for more than one request may.
    """
    tools = cast(list[dict[str, Any]] | None, asked.tools)
    choice = cast(str | dict[str, Any] | None, asked.tool_choice)
    wanted = cast(dict[str, Any] | None, asked.text.format if asked.text else None)
    sampling = {
        **asked.sampling,
        "tools": chat_tools(tools, choice),
        **{name: getattr(asked, name) for name in FORWARDED},
        "reasoning_effort": asked.reasoning.effort if asked.reasoning else None,
    }
    return new_exchange(
        "responses",
        caller,
        limits,
        _NAMES,
        model=asked.model,
        stream=bool(asked.stream),
        messages=messages,
        sampling=sampling,
        labels=asked.labels,
        response_format=response_format(wanted),
        tool_choice=chat_tool_choice(tools, choice),
        max_tokens=asked.max_output_tokens,
        enforce=blocks(asked.moderation),
    )


async def get_response(request: Request) -> JSONResponse:
    """A stored response, as its client got it."""
    caller = _reader(request)
    _only(request, "include", "include[]", "stream")
    if request.query_params.get("stream", "false") != "false":
        raise InvalidRequest("A stored response is not streamed again.", param="stream")
    response = orjson.loads((await _stored(request, caller)).body)
    return JSONResponse(response if Scope.REASONING in caller.scopes else without_thinking(response))


async def delete_response(request: Request) -> JSONResponse:
    """Delete a stored response; its record stays."""
    caller, wanted = _reader(request), request.path_params["response_id"]
    async with reachable():
        deleted = await service_of(request).responses.delete(wanted, caller.name)
    if not deleted:
        raise _not_found(wanted)
    return JSONResponse({"id": wanted, "object": "response", "deleted": True})


async def cancel_response(request: Request) -> JSONResponse:
    """Refused: what can be named by its id is already over."""
    stored = await _stored(request, _reader(request))
    raise InvalidRequest(
        f"The response {stored.id!r} did not run in the background, so it cannot be cancelled.",
        param="response_id",
        code="not_cancellable",
    )


async def list_input_items(request: Request) -> JSONResponse:
    """The items that a stored response answered, without those of the turns before it."""
    caller = _reader(request)
    _only(request, "include", "include[]", "limit", "order", "after")
    query = request.query_params
    order, after, wanted = query.get("order", "desc"), query.get("after"), query.get("limit", str(_LISTED))
    if order not in {"asc", "desc"}:
        raise InvalidRequest("order must be asc or desc.", param="order")
    if not (re.fullmatch(r"[0-9]{1,3}", wanted) and 1 <= int(wanted) <= _MOST_LISTED):
        raise InvalidRequest(f"limit must be a number from 1 to {_MOST_LISTED}.", param="limit")
    items = orjson.loads((await _stored(request, caller)).input)
    if order == "desc":
        items.reverse()
    if after is not None:
        at = next((number for number, item in enumerate(items) if item["id"] == after), None)
        if at is None:
            raise InvalidRequest(f"There is no item {after!r} in this list.", param="after")
        items = items[at + 1 :]
    page = items[: int(wanted)]
    return JSONResponse(
        {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": len(items) > len(page),
        }
    )


def _shown(asked: ResponsesRequest, caller: Caller, service: Service) -> Shown:
    if Scope.REASONING not in caller.scopes or not service.reasoning_fields:
        return Shown.HIDDEN
    return Shown.SUMMARY if asked.summary else Shown.TEXT


def _reader(request: Request) -> Caller:
    caller = caller_of(request)
    caller.require(Scope.CHAT)
    return caller


async def _stored(request: Request, caller: Caller) -> StoredResponse:
    wanted = request.path_params["response_id"]
    async with reachable():
        stored = await service_of(request).responses.get(wanted, caller.name)
    if stored is None:
        raise _not_found(wanted)
    return stored


def _not_found(wanted: str) -> NotFound:
    return NotFound(f"Response with id {wanted!r} not found.", param="response_id", code="response_not_found")


def _only(request: Request, *names: str) -> None:
    """Refuse query parameters that would be dropped."""
    for name in request.query_params:
        if name not in names:
            raise InvalidRequest(
                f"{name}: this parameter is not supported.", param=name, code="unknown_parameter"
            )
