from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from guard.errors import ApiError, Overloaded, UpstreamError, UpstreamTimeout
from guard.logs import configure_events
from guard.upstream import in_process
from guard.upstream.in_process import HIGH_WATER, InProcessUpstream, WrappedApp
from guard.upstream.text_runs import Chunk
from tests.scripted import DONE, RESET, STALL, Reply, ScriptedApp, chat_events

BODY = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "déjà"}]}
HELLO = Reply.sse(chat_events("Hello there.", "Think."))
BODY_BYTES = b"".join(chat_events("Hello there.", "Think."))
STREAM: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream")],
}


def part(data: bytes, *, more: bool = True) -> Message:
    """A piece of a body."""
    return {"type": "http.response.body", "body": data, "more_body": more}


@pytest.fixture(autouse=True)
def _plain_logs() -> Iterator[None]:
    """As in a running guard; structlog's own tracebacks take seconds."""
    configure_events("console")
    yield
    structlog.reset_defaults()


@pytest.fixture(name="engine")
def _engine() -> ScriptedApp:
    return ScriptedApp()


@pytest.fixture(name="upstream")
async def _upstream(engine: ScriptedApp) -> AsyncIterator[InProcessUpstream]:
    upstream = calling(engine.asgi, api_key="secret")
    yield upstream
    await upstream.close()


def calling(app: ASGIApp, **options: Any) -> InProcessUpstream:
    """A client of an app whose server sent a lifespan without anything in it."""
    return InProcessUpstream(WrappedApp(app, {"type": "lifespan"}), **options)


async def chat(upstream: InProcessUpstream) -> list[Chunk]:
    """All chunks of one exchange."""
    return [chunk async for chunk in upstream.chat(BODY)]


async def failure(upstream: InProcessUpstream) -> ApiError:
    """The error that one exchange ends with."""
    with pytest.raises(ApiError) as caught:
        await chat(upstream)
    return caught.value


async def test_the_app_gets_what_a_server_would_have_given_it(
    engine: ScriptedApp, upstream: InProcessUpstream
) -> None:
    """One POST with the JSON body, its length, and the key; the chunks come back in order."""
    engine.script(HELLO)

    chunks = await chat(upstream)

    request = engine.requests[0]
    assert (request.method, request.path, request.json) == ("POST", "/v1/chat/completions", BODY)
    assert request.headers["authorization"] == "Bearer secret"
    assert request.headers["content-type"] == "application/json"
    assert int(request.headers["content-length"]) == len(request.body)
    texts = [choice["delta"].get("content") for chunk in chunks for choice in chunk["choices"]]
    assert "".join(filter(None, texts)) == "Hello there."


async def test_the_app_finds_itself_where_its_server_put_it() -> None:
    """Its own address prefix, itself and the state of its lifespan are in the scope of each call."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(dict(scope))
        scope["state"]["counter"] = len(seen)
        await send(STREAM)
        await send(part(BODY_BYTES, more=False))

    server: Scope = {"type": "lifespan", "app": app, "root_path": "/llm", "state": {"engine": 7}}
    upstream = InProcessUpstream(WrappedApp(app, server))
    await chat(upstream)
    await chat(upstream)

    assert [scope["path"] for scope in seen] == ["/llm/v1/chat/completions"] * 2
    assert [scope["raw_path"] for scope in seen] == [b"/llm/v1/chat/completions"] * 2
    assert all(scope["app"] is app and scope["root_path"] == "/llm" for scope in seen)
    assert server["state"] == {"engine": 7}


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply.drop(RESET), "engine_failed"),
        (Reply.json({"error": {"message": "boom"}}, 500), "engine_failed"),
        (Reply.json({"error": "Unauthorized"}, 401), "engine_misconfigured"),
        (Reply.json({"error": {"message": "no such model"}}, 404), "engine_misconfigured"),
        (Reply.sse([b"data: {not json}\n\n"]), "engine_bad_answer"),
        (Reply.sse([]), "engine_stream_broken"),
    ],
)
async def test_every_bad_answer_is_the_error_it_is_over_http(
    engine: ScriptedApp, upstream: InProcessUpstream, reply: Reply, code: str
) -> None:
    """Status and body mean what they mean from a server; an app that raises is one that says 500."""
    engine.script(reply)

    error = await failure(upstream)

    assert isinstance(error, UpstreamError)
    assert error.code == code


async def test_an_app_without_room_says_when_to_try_again(
    engine: ScriptedApp, upstream: InProcessUpstream
) -> None:
    """Retry-After is read in any case of its name."""
    engine.script(Reply.json({"error": {"message": "busy"}}, 429, Retry_After="7"))

    error = await failure(upstream)

    assert isinstance(error, Overloaded)
    assert error.retry_after == 7


async def test_an_app_that_never_answers_has_failed() -> None:
    """Returning without a response is HTTP 500, as servers make of it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    error = await failure(calling(app))

    assert (error.code, error.status) == ("engine_failed", 502)


async def test_a_break_at_any_byte_is_an_error(engine: ScriptedApp, upstream: InProcessUpstream) -> None:
    """Wherever the app raises, the exchange ends with an error; chunks before it are given."""
    for offset in range(0, len(BODY_BYTES) - len(DONE), 41):
        engine.script(HELLO.reset_after(offset))
        with pytest.raises(UpstreamError, match=r"in the middle|before it had finished"):
            await chat(upstream)


async def test_an_app_that_stops_inside_its_body_is_an_error() -> None:
    """A response whose last part never came is broken off, however the app ended."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(STREAM)
        await send(part(BODY_BYTES[:200]))

    assert (await failure(calling(app))).code == "engine_stream_broken"


async def test_the_app_waits_for_a_reader_that_is_behind() -> None:
    """No more than the high-water mark and one part are kept for a caller who does not read."""
    [event, *_] = chat_events("x" * 1000)
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(STREAM)
        for _ in range(1000):
            await send(part(event))
            sent += len(event)
        await send(part(BODY_BYTES, more=False))

    upstream = calling(app)
    with closing(await upstream.stream(BODY)) as stream:
        await stream.read()
        for _ in range(2000):
            await asyncio.sleep(0)
        assert sent <= 2 * HIGH_WATER + len(event)
        while await stream.read():
            pass

    assert sent == 1000 * len(event)


@pytest.mark.parametrize("begun", [False, True])
async def test_leaving_disconnects_the_app(
    engine: ScriptedApp, upstream: InProcessUpstream, begun: bool
) -> None:
    """A caller who closes the stream, or is cancelled while it waits for the head, has left."""
    events = chat_events("Hello.")
    engine.script(Reply.sse([*events[:2], STALL]) if begun else Reply.drop(STALL))

    if begun:
        stream = await upstream.stream(BODY)
        await stream.read()
        request = await engine.received()
        stream.close()
    else:
        chatting = asyncio.create_task(chat(upstream))
        request = await engine.received()
        chatting.cancel()

    await asyncio.wait_for(request.disconnected.wait(), 5)


async def test_an_app_that_sends_to_nobody_is_stopped() -> None:
    """An app that does not listen for the disconnect fails at its next send, as on a lost connection."""
    lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(STREAM)
        try:
            while True:
                await send(part(chat_events("Hello.")[0]))
        except OSError as error:
            lost.set_result(str(error))
            raise

    upstream = calling(app)
    with closing(await upstream.stream(BODY)) as stream:
        await stream.read()

    assert await asyncio.wait_for(lost, 5) == "nobody is there to read the response"
    await upstream.close()


async def test_closing_ends_calls_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that goes on after its caller has left is cancelled when the guard stops."""
    monkeypatch.setattr(in_process, "LEAVE_SECONDS", 0.05)
    cancelled = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(STREAM)
        await send(part(chat_events("Hello.")[0]))
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    upstream = calling(app)
    with closing(await upstream.stream(BODY)) as stream:
        await stream.read()
    assert not cancelled.is_set()
    await upstream.close()

    assert cancelled.is_set()


@pytest.mark.parametrize(
    ("reply", "options"),
    [
        (Reply.drop(STALL), {"first_byte_timeout": 0.05}),
        (Reply.sse([*chat_events("Hello.")[:3], STALL]), {"idle_timeout": 0.05}),
        (Reply.sse([*chat_events("Hello.")[:3], STALL]), {"total_timeout": 0.1}),
    ],
)
async def test_each_timeout_ends_a_stalled_exchange(
    engine: ScriptedApp, reply: Reply, options: dict[str, float]
) -> None:
    """The app is disconnected, and the error says that it took too long."""
    engine.script(reply)
    upstream = calling(engine.asgi, **options)

    error = await failure(upstream)

    assert isinstance(error, UpstreamTimeout)
    await asyncio.wait_for(engine.requests[0].disconnected.wait(), 5)
    await upstream.close()


Breach = Callable[[Send], Awaitable[None]]


async def _body_first(send: Send) -> None:
    await send(part(b"data: x\n\n"))


async def _unknown(send: Send) -> None:
    await send({"type": "http.response.unknown"})


@pytest.mark.parametrize("breach", [_body_first, _unknown])
async def test_an_app_that_breaks_the_protocol_has_failed(breach: Breach) -> None:
    """What no server would accept is an error of the app, told to it and to the caller."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await breach(send)

    assert (await failure(calling(app))).code == "engine_failed"
