"""What a choice gives, in order, while it runs: thinking, a decision, answer or tool calls, an end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from guard.deliberation.deliberation import Deliberation
from guard.pipeline.usage import Usage


class ThinkingText(NamedTuple):
    """A piece of the thinking; API layers show it only to keys that may see it."""

    text: str


class Decided(NamedTuple):
    """The thinking is over and checked; everything visible comes after this."""

    deliberation: Deliberation
    refused: bool
    """The guard's own refusal follows in place of the model's answer."""


class AnswerText(NamedTuple):
    """A piece of the visible answer."""

    text: str
    probabilities: list[dict[str, Any]] | None = None
    """Its tokens as ``logprobs.content`` has them, where they were asked for and can be told."""


class ToolCalls(NamedTuple):
    """Tool-call deltas in OpenAI's streaming shape."""

    deltas: list[dict[str, Any]]


class Finished(NamedTuple):
    """The choice is over and its record is durable; always the last event."""

    reason: str
    """``stop``, ``length``, ``tool_calls`` or ``content_filter``."""
    usage: Usage
    stop_sequence: str | None = None
    """The client's stop sequence that ended the answer, if one did."""


Event = ThinkingText | Decided | AnswerText | ToolCalls | Finished

Emit = Callable[[Event], Awaitable[None]]
"""Takes the next event of a choice; may raise ``ClientLeft``."""


class ClientLeft(Exception):
    """The client closed the connection; nobody is there to be told."""
