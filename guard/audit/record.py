"""One record per choice, whatever happened to it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from guard.deliberation.citations import Citation
from guard.deliberation.deliberation import Finding
from guard.deliberation.style import AnswerStyle
from guard.policy.model import Ruling


class Outcome(StrEnum):
    """How a choice ended."""

    STREAMING = "streaming"
    """Written before the first visible token of a stream, replaced when the stream ends."""
    ANSWERED = "answered"
    """The model's answer was released in full."""
    TRUNCATED = "truncated"
    """Released, but cut by a token limit."""
    REFUSED = "refused"
    """The guard released the policy's refusal text in place of the model's answer."""
    CUT = "cut"
    """A late finding closed the stream with ``content_filter``."""
    FAILED = "failed"
    """The engine failed; the client got an error."""
    DISCONNECTED = "disconnected"
    """The client left before the end."""
    INTERRUPTED = "interrupted"
    """The guard itself stopped mid-stream; set at the next start."""


class Record(NamedTuple):
    """Everything an auditor needs about one choice. Times are UTC; durations are milliseconds."""

    id: str
    """Unique and sortable by time: ``<request id>-<choice>``."""
    request_id: str
    """What the client got as ``x-guard-request-id``."""
    choice: int
    started_at: datetime
    finished_at: datetime
    endpoint: str
    tenant: str
    """Name of the API key, or ``anonymous`` where keys are off."""
    model: str
    """As the client named it."""
    engine_model: str
    """As the engine was asked."""
    policy: str
    """Name of the policy."""
    policy_digest: str
    mode: str
    """``observe`` or ``enforce``."""
    stream: bool
    outcome: Outcome
    sections: tuple[str, ...]
    """Sections given in full, canonical order."""
    decodings: tuple[str, ...]
    """Decodings that led to a section (``base64``, ``rot13``, …)."""
    messages: str
    """The client's messages as admitted, JSON."""
    thinking: str
    answer: str
    """What was released: the model's text, or the guard's refusal."""
    withheld: str
    """The model's answer where the guard did not release it."""
    tool_calls: str
    """Released tool calls, JSON; empty where there are none."""
    verdict: Ruling | None
    style: AnswerStyle
    agrees: bool | None
    """Whether verdict and answer style agree; None where there is nothing to compare."""
    citations: tuple[Citation, ...]
    findings: tuple[Finding, ...]
    attempts: int
    """Engine calls made for this choice."""
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    retrieval_ms: float
    first_token_ms: float
    """From admission to the first visible token; 0 where none was released."""
    total_ms: float
    error: str
    """What went wrong, for the operator; empty otherwise."""
    labels: str
    """What the client said of the request (user, safety identifier, cache key, metadata), JSON; empty
    where it said nothing."""
