"""``POST /v1/chat/completions``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from guard.api.body import read_json, validate
from guard.api.chat_request import ChatRequest
from guard.api.chat_response import ChunkWriter, Gathered, Shape, completion, decision
from guard.api.disconnect import ClientLeft, while_connected
from guard.api.request_id import new_request_id
from guard.api.state import RequestLimits, Service, service_of
from guard.errors import ApiError, InvalidRequest
from guard.keys import Caller
from guard.keys import Scope as KeyScope
from guard.pipeline.events import Decided, Event
from guard.pipeline.exchange import Exchange, Prepared
from guard.pipeline.messages import Message

_FORWARDED = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "tools",
    "parallel_tool_calls",
    "reasoning_effort",
    "user",
)
_NO_STORE = {"cache-control": "no-cache", "x-accel-buffering": "no"}


async def chat_completions(request: Request) -> CompletionResponse | StreamedResponse:
    """Answer a chat after deliberating over the policy."""
    service = service_of(request)
    caller = service.keys.caller(request.headers.get("authorization"))
    caller.require(KeyScope.CHAT)
    asked = validate(ChatRequest, await read_json(request, service.limits.body_bytes))
    service.check_model(asked.model)
    snapshot = service.policy(caller, request.headers.get("x-guard-policy")).snapshot
    exchange = admit(asked, service.limits, caller)
    prepared = service.pipeline.prepare(exchange, snapshot)
    shape = Shape(
        reasoning_fields=_shown(asked, caller, service),
        include_usage=bool(asked.stream_options and asked.stream_options.include_usage),
        structured=bool(exchange.constraint.get("response_format")),
    )
    if asked.stream:
        return StreamedResponse(service, prepared, shape)
    return CompletionResponse(service, prepared, shape)


def admit(asked: ChatRequest, limits: RequestLimits, caller: Caller) -> Exchange:
    """The request as an exchange.

    Raises:
        InvalidRequest: It asks for more than one request may.
    """
    if len(asked.messages) > limits.messages:
        raise InvalidRequest(f"At most {limits.messages} messages are allowed.", param="messages")
    if (asked.n or 1) > limits.choices:
        raise InvalidRequest(f"At most {limits.choices} choices are allowed.", param="n")
    field = "max_completion_tokens" if asked.max_completion_tokens else "max_tokens"
    max_tokens = asked.max_completion_tokens or asked.max_tokens
    if max_tokens and max_tokens > limits.max_answer_tokens:
        raise InvalidRequest(f"At most {limits.max_answer_tokens} tokens are allowed.", param=field)
    sampling = {name: value for name in _FORWARDED if (value := getattr(asked, name)) is not None}
    constraint: dict[str, Any] = {}
    if asked.response_format and asked.response_format["type"] != "text":
        constraint["response_format"] = asked.response_format
    if asked.tool_choice == "required" or isinstance(asked.tool_choice, dict):
        constraint["tool_choice"] = asked.tool_choice
    elif asked.tool_choice is not None:
        sampling["tool_choice"] = asked.tool_choice
    return Exchange(
        request_id=new_request_id(),
        endpoint="chat.completions",
        tenant=caller.name,
        model=asked.model,
        stream=bool(asked.stream),
        messages=cast(list[Message], asked.messages),
        started_at=datetime.now(UTC),
        started=time.perf_counter(),
        choices=asked.n or 1,
        sampling=sampling,
        constraint=constraint,
        stop=(asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ()),
        max_tokens=max_tokens,
        seed=asked.seed,
    )


def _shown(asked: ChatRequest, caller: Caller, service: Service) -> tuple[str, ...]:
    if KeyScope.REASONING not in caller.scopes or asked.include_reasoning is False:
        return ()
    return service.reasoning_fields


def guard_headers(prepared: Prepared) -> dict[str, str]:
    """What every answer under a policy says of itself."""
    policy = prepared.snapshot.policy
    return {
        "x-guard-request-id": prepared.exchange.request_id,
        "x-guard-policy": f"{policy.name}@{policy.digest[:12]}",
    }


class CompletionResponse:
    """The whole answer at once."""

    def __init__(self, service: Service, prepared: Prepared, shape: Shape) -> None:
        """Nothing runs before the response is sent."""
        self._service = service
        self._prepared = prepared
        self._shape = shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run all choices, then answer; stop when the client leaves."""
        runs = [self._gather(index) for index in range(self._prepared.exchange.choices)]
        try:
            async with while_connected(receive):
                if len(runs) == 1:
                    choices = [await runs[0]]
                else:
                    choices = await _all(runs)
        except ClientLeft:
            return
        headers = guard_headers(self._prepared)
        headers["x-guard-decision"] = ", ".join(decision(choice.decided) for choice in choices)
        body = completion(self._prepared, choices, self._shape)
        await Response(body, media_type="application/json", headers=headers)(scope, receive, send)

    async def _gather(self, index: int) -> Gathered:
        choice = Gathered()
        async with aclosing(self._service.pipeline.run(self._prepared, index)) as events:
            async for event in events:
                choice.add(event)
        return choice


async def _all(runs: list[Coroutine[Any, Any, Gathered]]) -> list[Gathered]:
    """Every choice to its end; then the first failure, if any, is the answer."""
    results = await asyncio.gather(*runs, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if isinstance(result, Gathered)]


class StreamedResponse:
    """The answer as server-sent events, with comments while there is nothing to show."""

    def __init__(self, service: Service, prepared: Prepared, shape: Shape) -> None:
        """Nothing runs before the response is sent."""
        self._service = service
        self._prepared = prepared
        self._writer = ChunkWriter(prepared, shape)
        self._headers = {**guard_headers(prepared), **_NO_STORE}
        self._started = False
        self._silent = True
        """Nothing was sent since the last tick."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Relay the choices' events as they come; stop when the client leaves."""
        self._send = send
        try:
            async with (
                while_connected(receive, every=self._service.ping_seconds, tick=self._ping),
                aclosing(self._events()) as events,
            ):
                async for index, event in events:
                    if isinstance(event, Decided) and self._prepared.exchange.choices == 1:
                        self._headers["x-guard-decision"] = decision(event)
                    frames = self._writer.frames(index, event)
                    if frames:
                        await self._write(frames)
                await self._write(self._writer.end(), last=True)
        except ClientLeft:
            return
        except ApiError as error:
            if not self._started:
                raise
            await self._write(b"data: " + orjson.dumps(error.body()) + b"\n\n", last=True)

    async def _events(self) -> AsyncGenerator[tuple[int, Event], None]:
        run, count = self._service.pipeline.run, self._prepared.exchange.choices
        if count == 1:
            async with aclosing(run(self._prepared, 0)) as events:
                async for event in events:
                    yield 0, event
            return
        queue: asyncio.Queue[tuple[int, Event | Exception | None]] = asyncio.Queue(maxsize=4 * count)

        async def feed(index: int) -> None:
            try:
                async with aclosing(run(self._prepared, index)) as events:
                    async for event in events:
                        await queue.put((index, event))
                await queue.put((index, None))
            except ApiError as error:
                await queue.put((index, error))

        tasks = [asyncio.create_task(feed(index)) for index in range(count)]
        try:
            running = count
            while running:
                index, item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    running -= 1
                else:
                    yield index, item
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ping(self) -> None:
        if self._silent:
            await self._write(b": ping\n\n")
        self._silent = True

    async def _write(self, data: bytes, *, last: bool = False) -> None:
        self._silent = False
        if not self._started:
            self._started = True
            headers = [(name.encode(), value.encode()) for name, value in self._headers.items()]
            headers.append((b"content-type", b"text/event-stream; charset=utf-8"))
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})
