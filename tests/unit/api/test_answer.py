"""Running an answer for one request, at the edges that no engine's script reaches."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from guard.api.answer import StreamedAnswer, WholeAnswer
from guard.errors import ApiError, AuditError
from guard.pipeline.events import AnswerText, ClientLeft, Emit, Event
from guard.pipeline.exchange import Exchange, Prepared
from guard.pipeline.pipeline import Pipeline
from guard.policy.load import load_policy
from tests.guarded import POLICY


class _Snapshot:
    policy = load_policy(POLICY)


class _Unrecorded:
    """A pipeline whose audit fails after so many events."""

    def __init__(self, events: int) -> None:
        self._events = events

    async def run(self, prepared: Prepared, index: int, emit: Emit) -> None:
        for number in range(self._events):
            await emit(AnswerText(f"{number}"))
        raise AuditError("the disk is full")


class _Writer:
    def frames(self, index: int, event: Event) -> bytes:
        return cast(AnswerText, event).text.encode()

    def end(self) -> bytes:
        return b"END"

    def failed(self, error: ApiError) -> bytes:
        return f"FAILED {error.status} {error.code}".encode()


def _prepared(choices: int) -> Prepared:
    exchange = Exchange(
        "gr-1",
        "chat.completions",
        "app",
        "default",
        True,
        [],
        datetime.now(UTC),
        time.perf_counter(),
        choices=choices,
    )
    return Prepared(exchange, cast(Any, _Snapshot()), (), (), (), "", 0.0)


async def _nothing() -> Any:
    """The request's channel while the client is there."""
    await asyncio.Event().wait()


async def _sent(events: int, choices: int) -> list[dict[str, Any]]:
    answer = StreamedAnswer(cast(Pipeline, _Unrecorded(events)), _prepared(choices), _Writer(), 60)
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await asyncio.wait_for(answer({}, _nothing, send), 5)
    return sent


@pytest.mark.parametrize("choices", [1, 3])
async def test_a_record_that_fails_ends_a_stream_that_has_begun(choices: int) -> None:
    """The client is told, in one frame, that what it got is not a whole answer."""
    sent = await _sent(2, choices)

    assert sent[0]["type"] == "http.response.start"
    assert sent[-1] == {
        "type": "http.response.body",
        "body": b"FAILED 503 audit_unavailable",
        "more_body": False,
    }
    assert b"disk" not in b"".join(message.get("body", b"") for message in sent)


@pytest.mark.parametrize("choices", [1, 3])
async def test_a_record_that_fails_before_the_stream_is_an_error_of_its_own(choices: int) -> None:
    """Nothing was sent, so the status can still say it."""
    with pytest.raises(AuditError):
        await _sent(0, choices)


async def test_what_is_written_first_is_sent_first_and_nothing_after_the_end() -> None:
    """A server that lets senders wait changes no order, and no ping follows the last frame."""
    sent: list[bytes] = []
    pinged = 0

    class Slow:
        async def run(self, prepared: Prepared, index: int, emit: Emit) -> None:
            for number in range(20):
                await asyncio.sleep(0.002)
                await emit(AnswerText(f"{number}."))

    async def send(message: Any) -> None:
        await asyncio.sleep(0.003 if len(sent) % 3 else 0)
        sent.append(message.get("body", b""))

    def ping() -> bytes:
        nonlocal pinged
        pinged += 1
        return f"P{pinged}.".encode()

    answer = StreamedAnswer(cast(Pipeline, Slow()), _prepared(1), _Writer(), 0.001, ping=ping)
    await asyncio.wait_for(answer({}, _nothing, send), 5)

    frames = [part for part in b"".join(sent).decode().removesuffix("END").split(".") if part]
    pings = [part for part in frames if part.startswith("P")]
    assert [part for part in frames if part not in pings] == [str(number) for number in range(20)]
    assert pings == [f"P{number}" for number in range(1, len(pings) + 1)]
    assert sent[-1] == b"END"


@pytest.mark.parametrize("choices", [1, 3])
@pytest.mark.parametrize("silent", [False, True])
async def test_a_server_that_says_by_send_that_the_client_left_stops_the_choices(
    choices: int, silent: bool
) -> None:
    """As servers do by ASGI 2.4: whether an answer or a ping was to be sent, every choice learns of it."""
    ends: list[type[BaseException] | None] = []

    class Endless:
        async def run(self, prepared: Prepared, index: int, emit: Emit) -> None:
            try:
                while True:
                    await asyncio.sleep(0.001)
                    if not silent:
                        await emit(AnswerText("."))
            except (ClientLeft, asyncio.CancelledError) as error:
                ends.append(type(error))
                raise

    async def send(message: Any) -> None:
        raise OSError("the connection is closed")

    answer = StreamedAnswer(cast(Pipeline, Endless()), _prepared(choices), _Writer(), 0.01)
    await asyncio.wait_for(answer({}, _nothing, send), 5)

    assert len(ends) == choices


async def test_a_whole_answer_to_nobody_is_no_error() -> None:
    """The record is there by then, so there is nothing to tell or to undo."""
    tried: list[str] = []

    class Silent:
        async def run(self, prepared: Prepared, index: int, emit: Emit) -> None:
            await emit(AnswerText("."))

    async def send(message: Any) -> None:
        tried.append(message["type"])
        raise OSError("the connection is closed")

    await WholeAnswer(cast(Pipeline, Silent()), _prepared(1), lambda choices: b"{}")({}, _nothing, send)

    assert tried == ["http.response.start"]
