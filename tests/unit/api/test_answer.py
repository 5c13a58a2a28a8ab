"""Running an answer for one request, at the edges that no engine's script reaches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from guard.api.answer import StreamedAnswer
from guard.errors import ApiError, AuditError
from guard.pipeline.events import AnswerText, Event
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

    async def run(self, prepared: Prepared, index: int = 0) -> AsyncGenerator[Event, None]:
        for number in range(self._events):
            yield AnswerText(f"{number}")
        raise AuditError("the disk is full")


class _Writer:
    def frames(self, index: int, event: Event) -> bytes:
        return cast(AnswerText, event).text.encode()

    def end(self) -> bytes:
        return b"END"

    def failed(self, error: ApiError) -> bytes:
        return f"FAILED {error.status} {error.code}".encode()


async def _sent(events: int, choices: int) -> list[dict[str, Any]]:
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
    prepared = Prepared(exchange, cast(Any, _Snapshot()), (), (), (), "", 0.0)
    answer = StreamedAnswer(cast(Pipeline, _Unrecorded(events)), prepared, _Writer(), 60)
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    await asyncio.wait_for(answer({}, receive, send), 5)
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
