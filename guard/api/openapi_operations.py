"""What each route takes and gives, for the OpenAPI document: the table that has one line for every route."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from guard.api import (
    chat_request,
    completions_request,
    messages_request,
    responses_request,
)
from guard.api import openapi_answers as answers
from guard.api.admin import RecordQuery
from guard.api.embeddings import EmbeddingRequest
from guard.api.litellm_guardrail_request import GuardrailRequest
from guard.api.moderations_request import ModerationRequest
from guard.keys import Scope

JSON = "application/json"
EVENTS = "text/event-stream"
TEXT = "text/plain"

_BODY = (400, 408, 413)
_ENGINE = (502, 503, 504)


@dataclass(frozen=True)
class Operation:
    """One method of one route."""

    tag: str
    summary: str
    answer: Any
    """The type of the body; None where it is text."""
    scope: Scope | None = Scope.CHAT
    """What a key must have; None where no key is asked for."""
    errors: tuple[int, ...] = ()
    """Statuses beside those that a missing or insufficient key gets."""
    request: type[BaseModel] | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    """Fields that are known and not honoured, each with the reason."""
    harmless: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Values of those that ask for nothing."""
    query: Mapping[str, dict[str, Any]] | type[BaseModel] = field(default_factory=dict)
    """Parameters: their schemas by name, or the model of all."""
    events: Any = None
    """The type of the data of each event, where the answer can be streamed."""
    done: bool = False
    """Such a stream ends with the word ``[DONE]``."""
    judged: bool = False
    """A policy is applied: the request may choose it, and the answer names it."""
    also: Mapping[int, Any] = field(default_factory=dict)
    """Further statuses with bodies of their own."""


def _answering(
    summary: str, module: Any, request: type[BaseModel], answer: Any, events: Any, *, done: bool = False
) -> Operation:
    """An operation that answers after deliberating."""
    return Operation(
        "Answers",
        summary,
        answer,
        errors=(*_BODY, 404, *_ENGINE),
        request=request,
        refused=module.REFUSED_HERE,
        harmless=module.HARMLESS_HERE,
        events=events,
        done=done,
        judged=True,
    )


def _judging(summary: str, request: type[BaseModel], answer: Any) -> Operation:
    return Operation(
        "Judgements", summary, answer, errors=(*_BODY, 404, *_ENGINE), request=request, judged=True
    )


def _stored(summary: str, answer: Any, *, query: Mapping[str, dict[str, Any]] | None = None) -> Operation:
    return Operation("Stored responses", summary, answer, errors=(400, 404, 503), query=query or {})


_WORD: dict[str, Any] = {"type": "string"}
_INCLUDE = {"include": _WORD}
_PAGE: dict[str, dict[str, Any]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 100},
    "order": {"type": "string", "enum": ["asc", "desc"]},
    "after": _WORD,
}

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/v1/chat/completions"): _answering(
        "Answer a chat",
        chat_request,
        chat_request.ChatRequest,
        answers.ChatCompletion,
        answers.ChatChunk | answers.ErrorAnswer,
        done=True,
    ),
    ("POST", "/v1/responses"): _answering(
        "Make a response",
        responses_request,
        responses_request.ResponsesRequest,
        answers.ResponseObject,
        answers.ResponseEvent,
    ),
    ("POST", "/v1/completions"): _answering(
        "Answer a prompt",
        completions_request,
        completions_request.CompletionRequest,
        answers.TextCompletion,
        answers.TextChunk | answers.ErrorAnswer,
        done=True,
    ),
    ("POST", "/v1/messages"): _answering(
        "Answer messages",
        messages_request,
        messages_request.MessagesRequest,
        answers.MessageAnswer,
        answers.MessageEvent,
    ),
    ("POST", "/v1/messages/count_tokens"): Operation(
        "Answers",
        "Estimate the tokens of messages",
        answers.TokenCount,
        errors=(*_BODY, 404, 503),
        request=messages_request.Conversation,
        judged=True,
    ),
    ("GET", "/v1/responses/{response_id}"): _stored(
        "Get a response", answers.ResponseObject, query={**_INCLUDE, "stream": {"const": "false"}}
    ),
    ("DELETE", "/v1/responses/{response_id}"): _stored("Delete a response", answers.DeletedResponse),
    ("POST", "/v1/responses/{response_id}/cancel"): _stored("Refused: nothing runs in the background", None),
    ("GET", "/v1/responses/{response_id}/input_items"): _stored(
        "List what a response answered", answers.InputItems, query={**_INCLUDE, **_PAGE}
    ),
    ("POST", "/v1/embeddings"): Operation(
        "Vectors",
        "Embed texts",
        answers.Embeddings,
        errors=(*_BODY, 404, *_ENGINE),
        request=EmbeddingRequest,
    ),
    ("POST", "/v1/moderations"): _judging("Judge texts", ModerationRequest, answers.Moderations),
    ("POST", "/beta/litellm_basic_guardrail_api"): _judging(
        "Judge what a LiteLLM proxy sends or gets", GuardrailRequest, answers.GuardrailAnswer
    ),
    ("GET", "/v1/models"): Operation("Models", "List the models", answers.Models),
    ("GET", "/v1/models/{name}"): Operation("Models", "Get a model", answers.Model, errors=(404,)),
    ("GET", "/guard/v1/records"): Operation(
        "Records", "List records", answers.Records, Scope.AUDIT, errors=(400, 503), query=RecordQuery
    ),
    ("GET", "/guard/v1/records/{id}"): Operation(
        "Records", "Get a record", answers.RecordAnswer, Scope.AUDIT, errors=(404, 503)
    ),
    ("GET", "/guard/v1/policies"): Operation("Policies", "List the policies", answers.Policies, Scope.ADMIN),
    ("POST", "/guard/v1/policies/{name}/reload"): Operation(
        "Policies",
        "Read a policy's folder again",
        answers.ReloadedPolicy,
        Scope.ADMIN,
        errors=(404,),
        also={422: answers.ReloadedPolicy},
    ),
    ("GET", "/healthz"): Operation("Health", "The process runs", answers.Status, None),
    ("GET", "/readyz"): Operation(
        "Health", "The guard can answer", answers.Status, None, also={503: answers.Status}
    ),
    ("GET", "/metrics"): Operation("Health", "Metrics for Prometheus", None, None),
    ("GET", "/openapi.json"): Operation("Health", "This document", dict[str, Any], None),
}
