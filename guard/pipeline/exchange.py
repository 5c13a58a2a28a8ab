"""One admitted request, and what was prepared for it: snapshot, sections, system prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from guard.pipeline.messages import Message
from guard.rollout.snapshot import Snapshot

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Constrained(StrEnum):
    """How an engine applies a grammar (``response_format``, a required tool) beside a thinking."""

    AFTER_THINKING = "after_thinking"
    """Its reasoning parser frees the thinking and constrains the rest; one call."""
    CONTINUED = "continued"
    """A grammar would silence the thinking: one call thinks, a second continues it under the grammar."""
    UNSUPPORTED = "unsupported"
    """It applies none; such requests are refused."""


@dataclass(frozen=True)
class EngineProfile:
    """What the pipeline must know about the engine behind it."""

    model: str
    """What the engine calls its model."""
    thinking_opened: bool = False
    """Its chat template opens the thinking, so that completions begin inside it."""
    thinking_tokens: int = 1024
    """Tokens reserved for the thinking, on top of what the client asks for the answer."""
    answer_tokens: int | None = None
    """Answer tokens where the client sets no limit; None leaves it to the engine."""
    constrained: Constrained = Constrained.AFTER_THINKING
    learnt: frozenset[str] = frozenset()
    """Digests of the policy sections that its model was trained on."""
    lacks: frozenset[str] = frozenset()
    """Request fields that it does not take, or does nothing with."""
    running_usage: bool = False
    """It can report usage in every chunk (``continuous_usage_stats``), which makes limits exact."""


class Exchange(NamedTuple):
    """One request after admission; everything the endpoints have in common."""

    request_id: str
    endpoint: str
    tenant: str
    model: str
    """As the client named it."""
    stream: bool
    messages: list[Message]
    """Validated, as the client sent them."""
    started_at: datetime
    started: float
    """``time.perf_counter`` at admission."""
    choices: int = 1
    sampling: Mapping[str, Any] = _NOTHING
    """Fields forwarded as they are: temperature, top_p, tools, …"""
    labels: Mapping[str, Any] = _NOTHING
    """The client's own words about the request: user, metadata, … For the record."""
    probabilities: Mapping[str, Any] = _NOTHING
    """``logprobs`` and ``top_logprobs`` where the client wants those of the visible answer."""
    constraint: Mapping[str, Any] = _NOTHING
    """``response_format`` and a forcing ``tool_choice``: what a grammar enforces."""
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    """Limit for the visible answer."""
    seed: int | None = None
    enforce: bool = False
    """Findings are acted on, also where the guard only observes."""
    searched: tuple[str, ...] | None = None
    """What retrieval reads in place of the messages, where those hold words of the guard's own."""
    decision_only: bool = False
    """Nothing is to be answered: the engine is stopped where its thinking ends."""


class Prepared(NamedTuple):
    """An exchange with the policy it is answered under."""

    exchange: Exchange
    snapshot: Snapshot
    given: tuple[str, ...]
    """Sections in the prompt, canonical order."""
    matched: tuple[str, ...]
    """Sections that retrieval found, best first, whether or not they had to be given."""
    decodings: tuple[str, ...]
    """The ways in which texts had to be decoded for a section to be found."""
    system: str
    retrieval_ms: float
    not_applied: tuple[str, ...] = ()
    """Fields of the request that are left out of the engine's calls."""
    decoded: Mapping[str, str] = _NOTHING
    """What the engine is told after texts of the request that had to be decoded, by text."""
    dictated: bool = False
    """The request holds a decision, which the thinking may repeat."""


@dataclass(frozen=True)
class RetrievalLimits:
    """What retrieval may add to a prompt."""

    max_sections: int = 3
    budget_tokens: int = 1500
    """For the retrieved sections; the constant part comes on top."""
    show_decoded: bool = True
    """Say after a text that had to be decoded what it reads."""
