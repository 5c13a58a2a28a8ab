from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from guard.errors import ApiError, ConfigError, InvalidRequest, Overloaded, UpstreamError, UpstreamTimeout
from guard.upstream.client import Upstream
from guard.upstream.text_runs import Chunk
from tests.scripted import (
    CLOSE,
    DONE,
    RESET,
    STALL,
    Reply,
    ScriptedEngine,
    chat_events,
)

BODY = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "déjà"}]}
HELLO = Reply.sse(chat_events("Hello there.", "Think."))
BODY_BYTES = b"".join(chat_events("Hello there.", "Think."))


@pytest.fixture(name="engine")
async def _engine() -> AsyncIterator[ScriptedEngine]:
    async with ScriptedEngine() as engine:
        yield engine


@pytest.fixture(name="upstream")
async def _upstream(engine: ScriptedEngine) -> AsyncIterator[Upstream]:
    upstream = Upstream(engine.base_url, api_key="secret")
    await upstream.start()
    yield upstream
    await upstream.close()


async def chat(upstream: Upstream, body: dict[str, Any] = BODY) -> list[Chunk]:
    """All chunks of one exchange."""
    return [chunk async for chunk in upstream.chat(body)]


async def failure(upstream: Upstream) -> ApiError:
    """The error that one exchange ends with."""
    with pytest.raises(ApiError) as caught:
        await chat(upstream)
    return caught.value


async def test_a_stream_is_asked_for_and_relayed(engine: ScriptedEngine, upstream: Upstream) -> None:
    """The body goes out as JSON with the key, the chunks come back in order."""
    engine.script(HELLO)

    chunks = await chat(upstream)

    [request] = engine.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.json == BODY
    assert request.headers["authorization"] == "Bearer secret"
    assert request.headers["content-type"] == "application/json"
    assert len(chunks) == len(chat_events("Hello there.", "Think.")) - 1


async def test_a_finished_exchange_leaves_its_connection_for_the_next(
    engine: ScriptedEngine, upstream: Upstream
) -> None:
    """Exchanges one after the other use one connection, also with [DONE] in a packet of its own."""
    engine.otherwise(HELLO)

    for _ in range(5):
        await chat(upstream)

    assert engine.connections == 1


async def test_more_than_a_hundred_streams_run_at_once(engine: ScriptedEngine, upstream: Upstream) -> None:
    """No cap of the HTTP library queues the hundred-and-first stream."""
    gate = asyncio.Event()
    engine.otherwise(Reply.sse([*chat_events("Hi.")[:1], gate, *chat_events("Hi.")[1:]]))

    tasks = [asyncio.create_task(chat(upstream)) for _ in range(150)]
    await engine.received(150)
    gate.set()

    assert {len(chunks) for chunks in await asyncio.gather(*tasks)} == {4}


@pytest.mark.parametrize("base", ["http://127.0.0.1:{}", "http://127.0.0.1:{}/v1/"])
async def test_the_address_may_lack_v1(engine: ScriptedEngine, base: str) -> None:
    """With and without /v1 and a trailing slash the same path is asked."""
    engine.otherwise(HELLO)
    upstream = Upstream(base.format(engine.port))
    await upstream.start()
    await chat(upstream)
    await upstream.close()

    assert engine.requests[0].path == "/v1/chat/completions"
    assert "authorization" not in engine.requests[0].headers
    assert upstream.base_url == engine.base_url


@pytest.mark.parametrize(
    "base",
    ["", "localhost:8000", "ftp://x/v1", "http://", "http://x/v1?a=1", "http://u:p@x", "http://x:y"],
)
def test_an_unusable_address_is_refused(base: str) -> None:
    """A base URL that cannot be asked is a configuration error at once."""
    with pytest.raises(ConfigError, match="address"):
        Upstream(base)


@pytest.mark.parametrize("key", ["", " ", "a\nb", "clé"])
def test_an_unusable_key_is_refused(key: str) -> None:
    """A key that no header can carry is a configuration error at once."""
    with pytest.raises(ConfigError, match="key"):
        Upstream("http://x", api_key=key)


async def test_leaving_the_stream_disconnects_from_the_engine(
    engine: ScriptedEngine, upstream: Upstream
) -> None:
    """Closing the generator early closes the connection, so that the engine stops."""
    engine.script(Reply.sse([chat_events("Hello.")[0], STALL]))

    async with aclosing(upstream.chat(BODY)) as chunks:
        await anext(chunks)

    async with asyncio.timeout(10):
        await engine.requests[0].disconnected.wait()


@pytest.mark.parametrize("reply", [Reply.drop(STALL), Reply.sse([b": ping\n\n", STALL])])
async def test_cancelling_disconnects_before_the_first_chunk(
    engine: ScriptedEngine, upstream: Upstream, reply: Reply
) -> None:
    """A caller cancelled while waiting for the head or the first chunk leaves no request behind."""
    engine.script(reply)
    task = asyncio.create_task(chat(upstream))
    request = await engine.received()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async with asyncio.timeout(10):
        await request.disconnected.wait()


@pytest.mark.parametrize("how", [CLOSE, RESET])
async def test_a_connection_lost_before_the_answer_is_tried_once_more(
    engine: ScriptedEngine, upstream: Upstream, how: Any
) -> None:
    """The keep-alive race, a connection that closes under the request, costs a retry, no error."""
    engine.script(HELLO, Reply.drop(how), HELLO)

    await chat(upstream)
    chunks = await chat(upstream)

    assert chunks[-1]["usage"]["total_tokens"] == 10
    assert len(engine.requests) == 3


async def test_the_second_try_has_a_new_connection(engine: ScriptedEngine, upstream: Upstream) -> None:
    """Others that lie idle may be about to close as well: those of one burst grow old together."""
    engine.script(HELLO, HELLO, Reply.drop(), HELLO)

    await asyncio.gather(chat(upstream), chat(upstream))
    assert engine.connections == 2
    await chat(upstream)

    assert engine.connections == 3


async def test_a_second_loss_is_an_error(engine: ScriptedEngine, upstream: Upstream) -> None:
    """A request is sent twice at the most."""
    engine.otherwise(Reply.drop())

    assert (await failure(upstream)).code == "engine_unreachable"
    assert len(engine.requests) == 2


async def test_a_head_that_breaks_off_is_not_retried(engine: ScriptedEngine, upstream: Upstream) -> None:
    """Once a byte of the answer has arrived the request is not sent again."""
    engine.otherwise(Reply((b"HTTP/1.1 200 OK\r\nContent-", CLOSE), framing="raw"))

    assert (await failure(upstream)).status == 502
    assert len(engine.requests) == 1


@pytest.mark.parametrize("how", [RESET, CLOSE])
@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_a_break_at_any_byte_is_an_error(
    engine: ScriptedEngine, upstream: Upstream, how: Any, framing: Any
) -> None:
    """A body that breaks off anywhere before [DONE] ends in an error, never in a short answer."""
    end = BODY_BYTES.index(b"data: [DONE]")
    whole = Reply.sse([BODY_BYTES], framing=framing)
    head = whole.head()
    codes = set()
    for count in range(1, end, 37):
        cut = whole.reset_after(count, how)
        engine.script(Reply((head, *cut.steps), framing="raw") if framing == "length" else cut)
        codes.add((await failure(upstream)).code)

    assert codes == {"engine_stream_broken"}
    assert len(engine.requests) == len(range(1, end, 37))


async def test_a_body_that_ends_by_closing_is_whole_after_a_finish_reason(
    engine: ScriptedEngine, upstream: Upstream
) -> None:
    """Without framing, only the finish reason tells a whole answer from a broken one."""
    events = chat_events("Hello.", usage=False, done=False)
    engine.script(Reply.sse(events, framing="close"), Reply.sse(events[:-1], framing="close"))

    assert len(await chat(upstream)) == 3
    assert (await failure(upstream)).code == "engine_stream_broken"


@pytest.mark.parametrize("rest", [STALL, CLOSE, b"x" * 100])
async def test_what_comes_after_done_changes_nothing(
    engine: ScriptedEngine, upstream: Upstream, rest: Any
) -> None:
    """After [DONE] the answer is whole, whatever the engine does with its connection."""
    engine.script(Reply.sse([*chat_events("Hello."), rest]))

    assert len(await chat(upstream)) == 4


async def test_split_bytes_give_the_same_chunks(engine: ScriptedEngine, upstream: Upstream) -> None:
    """An answer in chunks of seven bytes equals the answer at once."""
    engine.script(HELLO, HELLO.split(7))

    assert await chat(upstream) == await chat(upstream)


@pytest.mark.parametrize(
    ("reply", "kind", "code"),
    [
        (Reply.json({"error": {"message": "too long"}}, 400), InvalidRequest, None),
        (Reply.json({"error": "Unauthorized"}, 401), UpstreamError, "engine_misconfigured"),
        (Reply.json({"error": {"message": "?"}}, 404), UpstreamError, "engine_misconfigured"),
        (Reply.json({}, 307, location="/elsewhere"), UpstreamError, "engine_misconfigured"),
        (Reply.json({}, 429), Overloaded, "engine_overloaded"),
        (Reply.json({}, 500), UpstreamError, "engine_failed"),
        (Reply((b"x" * 200_000,), 500), UpstreamError, "engine_failed"),
        (Reply((b"x", RESET), 500), UpstreamError, "engine_failed"),
        (Reply((b"<html>",), 200, {"content-type": "text/html"}), UpstreamError, "engine_bad_answer"),
        (Reply((b"SMTP ready\r\n\r\n",), framing="raw"), UpstreamError, "engine_bad_answer"),
        (Reply.json({"error": {"message": "boom"}}), UpstreamError, "engine_failed"),
        (Reply.json({"object": "chat.completion", "choices": []}), UpstreamError, "engine_stream_broken"),
        (Reply.sse([b'data: {"error": {"message": "boom"}}\n\n', DONE]), UpstreamError, "engine_failed"),
    ],
)
async def test_every_bad_answer_is_a_typed_error(
    engine: ScriptedEngine, upstream: Upstream, reply: Reply, kind: type[ApiError], code: str | None
) -> None:
    """Statuses, redirects, other content and errors in streams become the guard's own errors."""
    engine.script(reply)

    error = await failure(upstream)

    assert type(error) is kind
    assert error.code == code
    assert len(engine.requests) == 1


async def test_an_overloaded_engine_tells_when_to_retry(engine: ScriptedEngine, upstream: Upstream) -> None:
    """The engine's Retry-After is kept."""
    engine.script(Reply.json({}, 503, retry_after="9"))

    error = await failure(upstream)

    assert isinstance(error, Overloaded)
    assert error.retry_after == 9


async def test_a_completion_in_answer_to_a_stream_request_is_one_chunk(
    engine: ScriptedEngine, upstream: Upstream
) -> None:
    """An engine that ignores ``stream`` still answers."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}
    engine.script(Reply.json({"object": "chat.completion", "choices": [choice]}))

    [chunk] = await chat(upstream)

    assert chunk["choices"][0]["delta"]["content"] == "Hi."


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_an_engine_that_is_not_there_is_unreachable() -> None:
    """A refused connection says so and is not retried as a lost one."""
    upstream = Upstream(f"http://127.0.0.1:{free_port()}")
    await upstream.start()
    error = await failure(upstream)
    healthy = await upstream.healthy()
    await upstream.close()

    assert (type(error), error.code, healthy) == (UpstreamError, "engine_unreachable", False)


@pytest.mark.parametrize(
    ("setting", "reply"),
    [
        ("first_byte_timeout", Reply.drop(STALL)),
        ("first_byte_timeout", Reply.sse([STALL])),
        ("first_byte_timeout", Reply.sse([chat_events("Hello.")[0], STALL])),
        ("idle_timeout", Reply.sse([*chat_events("Hello.")[:2], STALL])),
        ("total_timeout", Reply.drop(STALL)),
        ("total_timeout", Reply.sse([chat_events("Hello.")[0], STALL])),
        ("total_timeout", Reply((STALL,), headers={"content-type": "application/json"})),
    ],
)
async def test_each_timeout_ends_a_stalled_exchange(
    engine: ScriptedEngine, setting: str, reply: Reply
) -> None:
    """A stall before the head, before the body or inside it ends as a timeout and disconnects."""
    engine.script(reply)
    settings: dict[str, Any] = {"idle_timeout": 0.01, setting: 0.05}
    upstream = Upstream(engine.base_url, **settings)
    await upstream.start()

    error = await failure(upstream)

    assert (type(error), error.code) == (UpstreamTimeout, "engine_timeout")
    await engine.requests[0].disconnected.wait()
    await upstream.close()


async def test_comments_keep_a_slow_engine_alive(engine: ScriptedEngine) -> None:
    """Keep-alive comments count as signs of life, and are not chunks."""
    pings = [b": keep-alive\n\n"] * 3
    engine.script(Reply.sse([*pings, *chat_events("Hello.")]))
    upstream = Upstream(engine.base_url)
    await upstream.start()
    chunks = await chat(upstream)
    await upstream.close()

    assert len(chunks) == 4


async def test_the_model_list_is_given(engine: ScriptedEngine, upstream: Upstream) -> None:
    """The entries of the engine's list come back as they are; anything else is an error."""
    engine.script(
        Reply.json({"object": "list", "data": [{"id": "m"}]}),
        Reply.json({"data": "m"}),
        Reply((b"{",), headers={"content-type": "application/json"}),
    )

    assert await upstream.models() == [{"id": "m"}]
    assert engine.requests[0].path == "/v1/models"
    for _ in range(2):
        with pytest.raises(UpstreamError):
            await upstream.models()


@pytest.mark.parametrize(
    ("replies", "expected", "paths"),
    [
        ([Reply.json({})], True, ["/health"]),
        ([Reply.json({}, 503)], False, ["/health"]),
        ([Reply.json({}, 500)], False, ["/health"]),
        ([Reply.json({}, 404), Reply.json({"data": []})], True, ["/health", "/v1/models"]),
        ([Reply.json({}, 404), Reply.json({}, 500)], False, ["/health", "/v1/models"]),
    ],
)
async def test_health_is_asked_or_derived(
    engine: ScriptedEngine,
    upstream: Upstream,
    replies: list[Reply],
    expected: bool,
    paths: list[str],
) -> None:
    """An engine without a health path is healthy when it lists its models."""
    engine.script(*replies)

    assert await upstream.healthy() is expected
    assert [request.path for request in engine.requests] == paths


async def test_using_a_client_that_was_not_started_is_a_mistake() -> None:
    """Forgetting ``start`` is a programming error, not an engine's failure."""
    with pytest.raises(RuntimeError, match="not started"):
        await chat(Upstream("http://x"))
