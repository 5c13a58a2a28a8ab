"""The bodies of answers as the OpenAPI document tells them: the fields that a client can rely on.

Told and not checked at run time; the tests compare them with what is really answered.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict


class ErrorDetail(TypedDict):
    """What is wrong, where, and what to do."""

    message: str
    type: str
    param: str | None
    """The request field it is about, in dotted form."""
    code: str | None


class ErrorAnswer(TypedDict):
    """An error in OpenAI's shape."""

    error: ErrorDetail


class MessagesErrorDetail(TypedDict):
    """What is wrong, where, and what to do."""

    type: str
    message: str


class MessagesErrorAnswer(TypedDict):
    """An error in Anthropic's shape."""

    type: Literal["error"]
    error: MessagesErrorDetail


class Usage(TypedDict):
    """Tokens as the engine counted them, those of the thinking included."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int]
    completion_tokens_details: dict[str, int]


class CalledFunction(TypedDict):
    """A function and its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """A call that the model makes; none is told before the verdict."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class ChatMessage(TypedDict):
    """The answer; the thinking only for keys that may see it."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    annotations: list[Any]
    tool_calls: NotRequired[list[ToolCall]]
    reasoning: NotRequired[str]
    reasoning_content: NotRequired[str]


class ChatChoice(TypedDict):
    """One of the answers."""

    index: int
    message: ChatMessage
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]


class ChatCompletion(TypedDict):
    """A whole chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    moderation: NotRequired[dict[str, Any]]


class ChunkChoice(TypedDict):
    """What comes next in one of the answers."""

    index: int
    delta: dict[str, Any]
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"] | None


class ChatChunk(TypedDict):
    """A piece of a streamed chat completion; no choice in the last ones, of moderation and usage."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: NotRequired[Usage | None]
    moderation: NotRequired[dict[str, Any]]


class TextChoice(TypedDict):
    """One of the answers."""

    index: int
    text: str
    logprobs: None
    finish_reason: Literal["stop", "length", "content_filter"]


class TextCompletion(TypedDict):
    """A whole completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: Usage


class TextChunkChoice(TypedDict):
    """What comes next in one of the answers."""

    index: int
    text: str
    logprobs: None
    finish_reason: Literal["stop", "length", "content_filter"] | None


class TextChunk(TypedDict):
    """A piece of a streamed completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChunkChoice]
    usage: NotRequired[Usage | None]


class ResponseObject(TypedDict):
    """A response, with the fields of its request told again."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["completed", "incomplete", "failed", "in_progress"]
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    instructions: str | None
    metadata: dict[str, str]
    model: str
    output: list[dict[str, Any]]
    previous_response_id: str | None
    store: bool
    tools: list[dict[str, Any]]
    usage: dict[str, Any] | None


class ResponseEvent(TypedDict):
    """An event of a streamed response; what else is in it goes with its type."""

    type: str
    sequence_number: int


class DeletedResponse(TypedDict):
    """That it is gone."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class InputItems(TypedDict):
    """A page of the items that a response answered."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class MessageUsage(TypedDict):
    """Tokens as the engine counted them."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class MessageAnswer(TypedDict):
    """A whole message in Anthropic's shape."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[dict[str, Any]]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]
    stop_sequence: str | None
    usage: MessageUsage


class MessageEvent(TypedDict):
    """An event of a streamed message; what else is in it goes with its type."""

    type: Literal[
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
        "error",
    ]


class TokenCount(TypedDict):
    """An estimate on the safe side."""

    input_tokens: int


class Embedding(TypedDict):
    """The vector of one input, as numbers or as base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Embeddings(TypedDict):
    """The engine's vectors."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: dict[str, int]


class ModerationResult(TypedDict):
    """How the policy rules on one input; categories are clauses, named ``section/clause``."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[Literal["text", "image"]]]


class Moderations(TypedDict):
    """One result for each input."""

    id: str
    model: str
    results: list[ModerationResult]


class GuardrailAnswer(TypedDict):
    """What LiteLLM is to do."""

    action: Literal["NONE", "BLOCKED"]
    blocked_reason: NotRequired[str]


class Model(TypedDict):
    """A name under which this endpoint answers."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(TypedDict):
    """All of them."""

    object: Literal["list"]
    data: list[Model]


class RecordAnswer(TypedDict):
    """A record; docs/operations.md tells what is in it."""

    id: str
    request_id: str
    choice: int
    endpoint: str
    tenant: str
    outcome: str
    policy: str
    policy_digest: str
    verdict: str | None
    findings: list[str]
    citations: list[dict[str, Any]]


class Records(TypedDict):
    """A page of records, newest first."""

    object: Literal["list"]
    data: list[RecordAnswer]


class PolicyAnswer(TypedDict):
    """A policy in force."""

    name: str
    version: str
    digest: str
    sections: int
    clauses: int
    rejected_edit: list[str]


class Policies(TypedDict):
    """All of them."""

    object: Literal["list"]
    data: list[PolicyAnswer]


class ReloadedPolicy(PolicyAnswer):
    """What came of reading it again."""

    changed: bool
    seconds: float


class Status(TypedDict):
    """How the service is."""

    status: str
