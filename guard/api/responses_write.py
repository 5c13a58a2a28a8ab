"""Writes one response: as server-sent events, or whole; and keeps it before its last byte leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import structlog

from guard.api.answer import Gathered
from guard.api.responses_items import Item
from guard.api.responses_object import Response, begun, fail, finish
from guard.api.responses_output import Output, Shown, StreamEvent
from guard.api.responses_request import ResponsesRequest
from guard.audit.responses import ResponseStore, StoredResponse
from guard.errors import ApiError, AuditError
from guard.pipeline.events import AnswerText, Event, Finished, ThinkingText, ToolCalls
from guard.pipeline.exchange import Exchange
from guard.pipeline.usage import Usage

log = structlog.get_logger(__name__)


class ResponseWriter:
    """One response; for a stream, the order is ``frames`` …, ``keep``, ``end``."""

    def __init__(
        self,
        exchange: Exchange,
        asked: ResponsesRequest,
        given: list[Item],
        shown: Shown,
        store: ResponseStore,
        moderated: Callable[[Gathered], dict[str, Any]] | None = None,
    ) -> None:
        """Nothing is written yet.

        Args:
            exchange: As admitted.
            asked: The request.
            given: Its input as items.
            shown: How the thinking is shown.
            store: Keeps the response, if the client wants that.
            moderated: Makes the field ``moderation``; None where that was not asked for.
        """
        self.response: Response = begun(exchange, asked, shown)
        self._exchange = exchange
        self._moderated = moderated
        self._choice = Gathered()
        """Kept for ``moderation`` alone."""
        self._given = given
        self._store = store
        self._output = Output(self.response["id"], len(given), shown, structured=asked.structured)
        self._usage = Usage()
        self._number = 0

    def frames(self, index: int, event: Event) -> bytes:
        """The server-sent events for one event; nothing before there is something to show."""
        return b"".join([self._frame(told) for told in self._take(event)])

    async def keep(self) -> None:
        """Finish the response, and store it unless the client does not want that.

        Where the database does not take it, the answer is not lost: ``store`` says that it is not kept.
        """
        finish(self.response, self._output, self._usage)
        if self._moderated:
            self.response["moderation"] = self._moderated(self._choice)
        if not self.response["store"]:
            return
        stored = StoredResponse(
            id=self.response["id"],
            tenant=self._exchange.tenant,
            created_at=self._exchange.started_at,
            previous_id=self.response["previous_response_id"],
            input=orjson.dumps(self._given).decode(),
            body=orjson.dumps(self.response).decode(),
        )
        try:
            await self._store.save(stored)
        except AuditError as error:
            log.error("response not stored", response=stored.id, reason=str(error))
            self.response["store"] = False

    def end(self) -> bytes:
        """The last event; nothing follows it."""
        kind = f"response.{self.response['status']}"
        return self._frame({"type": kind, "response": self.response})

    def failed(self, error: ApiError) -> bytes:
        """The last event of a response that an error ended."""
        fail(self.response, self._output, error)
        return self._frame({"type": "response.failed", "response": self.response})

    async def keep_whole(self, choices: list[Gathered]) -> None:
        """Finish and store an answer that is not streamed."""
        for event in _events(choices[0]):
            for _ in self._take(event):
                pass
        await self.keep()

    def whole(self, choices: list[Gathered]) -> bytes:
        """The body of an answer that is not streamed, once it is kept."""
        return orjson.dumps(self.response)

    def _take(self, event: Event) -> Iterator[StreamEvent]:
        if self._moderated:
            self._choice.add(event)
        if isinstance(event, Finished):
            self._usage = event.usage
            decided = self._choice.decided
            if decided is not None and decided.refused and self._exchange.enforce:
                event = event._replace(reason="content_filter")
        return self._output.take(event)

    def _frame(self, event: StreamEvent) -> bytes:
        opening = b""
        if self._number == 0:
            early = {**self.response, "status": "in_progress", "output": [], "error": None}
            early.update(usage=None, completed_at=None, incomplete_details=None)
            opening = self._numbered({"type": "response.created", "response": early})
            opening += self._numbered({"type": "response.in_progress", "response": early})
        return opening + self._numbered(event)

    def _numbered(self, event: StreamEvent) -> bytes:
        event = {**event, "sequence_number": self._number}
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))


def _events(choice: Gathered) -> list[Event]:
    """A gathered choice as the events that it came in, each kind at once."""
    assert choice.finished is not None
    events: list[Event] = [ThinkingText("".join(choice.thinking))]
    if choice.decided is not None:
        events.append(choice.decided)
    events.append(AnswerText("".join(choice.answer)))
    events.append(ToolCalls([{"index": index, **call} for index, call in enumerate(choice.tools)]))
    return [*events, choice.finished]
