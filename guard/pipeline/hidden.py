"""The policy text in a prompt, which neither an answer nor an error may show."""

from __future__ import annotations

from collections.abc import Iterator

from guard.deliberation.leak import LeakReader, quotes
from guard.pipeline.events import AnswerText, Event, ToolCalls
from guard.pipeline.exchange import Prepared
from guard.pipeline.messages import client_texts

TOLD = 5
"""Words in a row of the policy that no complaint of an engine needs."""


class PolicyWatch:
    """Watches one answer, tool calls included, for a quotation of the policy."""

    def __init__(self, prepared: Prepared) -> None:
        """Nothing is looked up before the answer begins."""
        self._prepared = prepared
        self._reader: LeakReader | None = None

    def take(self, event: Event) -> bool:
        """Whether this event completes a quotation; only the first one of an answer is told."""
        if self._reader is None:
            hidden = self._prepared.snapshot.hidden(self._prepared.given)
            self._reader = LeakReader(hidden, self._client_texts)
        if self._reader.found:
            return False
        return any(self._reader.feed(text) for text in _texts(event))

    def _client_texts(self) -> Iterator[str]:
        exchange = self._prepared.exchange
        return client_texts(exchange.messages, exchange.sampling.get("tools"), exchange.constraint)


def shows_policy(message: str, prepared: Prepared) -> bool:
    """Whether an engine's complaint about a request repeats what the guard put into the prompt."""
    spec = prepared.snapshot.spec
    texts = (spec.constant, *(spec.sections[section] for section in prepared.given))
    return any(quotes(message, text, TOLD) for text in texts)


def _texts(event: Event) -> list[str]:
    match event:
        case AnswerText(text):
            return [text]
        case ToolCalls(deltas):
            return [delta["function"].get("arguments") or "" for delta in deltas]
    return []
