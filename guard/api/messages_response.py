"""Messages as Anthropic writes them, whole and as a stream of events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from guard.api.answer import Gathered
from guard.api.messages_blocks import ContentBlocks, bad_call, event
from guard.api.messages_errors import messages_error
from guard.errors import ApiError
from guard.pipeline.events import AnswerText, Decided, Event, Finished, ThinkingText, ToolCalls
from guard.pipeline.exchange import Prepared
from guard.pipeline.usage import Usage

_STOP_REASONS = {"length": "max_tokens", "content_filter": "refusal"}
_REFUSED = {
    "type": "refusal",
    "category": None,
    "explanation": "The answer did not hold under the policy and is not released.",
}


def message(prepared: Prepared, choice: Gathered, *, show_thinking: bool) -> bytes:
    """The body of an answer that is not streamed.

    Raises:
        UpstreamError: A tool call in it has no name or no arguments that can be read.
    """
    assert choice.finished is not None
    content: list[dict[str, Any]] = []
    thinking, text = "".join(choice.thinking), "".join(choice.answer)
    if show_thinking and thinking:
        signature = prepared.exchange.request_id
        content.append({"type": "thinking", "thinking": thinking, "signature": signature})
    if text:
        content.append({"type": "text", "text": text})
    for number, call in enumerate(choice.tools):
        cut = choice.finished.reason in _STOP_REASONS and number == len(choice.tools) - 1
        content += _tool_use(call, f"toolu_{prepared.exchange.request_id}_{number}", cut=cut)
    refused = choice.decided is not None and choice.decided.refused
    end = Ending.of(choice.finished, refused=refused, tools=bool(choice.tools))
    body = {**_head(prepared), "content": content, **end.fields(), "usage": usage(choice.finished.usage)}
    return orjson.dumps(body)


def _tool_use(call: dict[str, Any], spare_id: str, *, cut: bool) -> list[dict[str, Any]]:
    """A tool call; nothing where the token limit cut it, since half a call is none."""
    function = call["function"]
    try:
        given = orjson.loads(function["arguments"].strip() or "{}")
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict):
        if cut:
            return []
        raise bad_call("called a tool with arguments that are no JSON object")
    if not function["name"]:
        raise bad_call("called a tool without naming it")
    return [{"type": "tool_use", "id": call["id"] or spare_id, "name": function["name"], "input": given}]


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a message ended."""

    stop_reason: str
    stop_sequence: str | None

    @classmethod
    def of(cls, finished: Finished, *, refused: bool, tools: bool) -> Ending:
        """The ending in Anthropic's terms.

        Args:
            finished: The pipeline's own.
            refused: The guard put the policy's refusal in place of the answer.
            tools: Tool calls were released; some engines then say no more than ``stop``.
        """
        if refused:
            return cls("refusal", None)
        if finished.reason in _STOP_REASONS:
            return cls(_STOP_REASONS[finished.reason], None)
        if finished.stop_sequence is not None:
            return cls("stop_sequence", finished.stop_sequence)
        return cls("tool_use" if tools else "end_turn", None)

    def fields(self) -> dict[str, Any]:
        """As it stands in a message and in the event ``message_delta``."""
        return {
            "stop_reason": self.stop_reason,
            "stop_sequence": self.stop_sequence,
            "stop_details": _REFUSED if self.stop_reason == "refusal" else None,
        }


def usage(used: Usage) -> dict[str, Any]:
    """Token counts; what was read from the engine's cache counts apart, as Anthropic has it."""
    counts: dict[str, Any] = {
        "input_tokens": used.prompt - used.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": used.cached,
        "output_tokens": used.completion,
    }
    if used.reasoning:
        counts["output_tokens_details"] = {"thinking_tokens": used.reasoning}
    return counts


def _head(prepared: Prepared) -> dict[str, Any]:
    exchange = prepared.exchange
    return {
        "id": f"msg_{exchange.request_id}",
        "type": "message",
        "role": "assistant",
        "model": exchange.model,
    }


class EventWriter:
    """Writes the events of one stream: start, content blocks, how it ended, stop."""

    def __init__(self, prepared: Prepared, *, show_thinking: bool, input_tokens: int) -> None:
        """Nothing is written yet.

        Args:
            prepared: The exchange.
            show_thinking: Whether the thinking is a content block.
            input_tokens: An estimate for the beginning; the engine's count comes at the end.
        """
        self._message = {
            **_head(prepared),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "usage": usage(Usage(prompt=input_tokens)),
        }
        self._show_thinking = show_thinking
        self._blocks = ContentBlocks(prepared.exchange.request_id)
        self._begun = False
        self._refused = False
        self._tools = False

    def frames(self, index: int, happened: Event) -> bytes:
        """The events for one event of the choice; empty where nothing is shown."""
        match happened:
            case ThinkingText(text):
                return self._start() + self._blocks.add("thinking", text) if self._show_thinking else b""
            case AnswerText(text):
                return self._start() + self._blocks.add("text", text)
            case ToolCalls(deltas):
                self._tools = True
                return self._start() + self._blocks.add_tools(deltas)
            case Decided(_, refused):
                self._refused = refused
                return b""
            case Finished():
                return self._start() + self._blocks.close() + self._ending(happened)

    def end(self) -> bytes:
        """The last event."""
        return event("message_stop", {})

    def failed(self, error: ApiError) -> bytes:
        """An error, and no ``message_stop``: what came before is not a whole message."""
        body = messages_error(error.status, error.message, error.param)
        return event("error", {"error": body["error"]})

    def ping(self) -> bytes:
        """What is sent while there is nothing to show."""
        return self._start() + event("ping", {})

    def _start(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return event("message_start", {"message": self._message})

    def _ending(self, finished: Finished) -> bytes:
        ending = Ending.of(finished, refused=self._refused, tools=self._tools)
        return event("message_delta", {"delta": ending.fields(), "usage": usage(finished.usage)})
