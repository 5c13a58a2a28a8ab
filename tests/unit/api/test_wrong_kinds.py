"""Requests with a value of another kind in one place: refused or accepted, and no defect of the guard."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from pydantic import BaseModel

from guard.api.body import validate
from guard.api.chat_request import ChatRequest
from guard.api.completions_request import CompletionRequest
from guard.api.embeddings import EmbeddingRequest
from guard.api.litellm_guardrail_request import GuardrailRequest
from guard.api.messages_request import MessagesRequest
from guard.api.moderations_request import ModerationRequest
from guard.api.responses_request import ResponsesRequest
from guard.errors import InvalidRequest

OTHERS: list[Any] = [{}, [], [1], {"a": 1}, 1, 1.5, True, None, "x"]
IMAGE = {"type": "image_url", "image_url": {"url": "http://x"}}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
BODIES: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (
        ChatRequest,
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": "x"}]},
                {"role": "user", "content": [{"type": "text", "text": "x"}, IMAGE]},
                {"role": "assistant", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "a", "content": "x"},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
            "moderation": {"model": "m", "policy": {"input": {"mode": "score"}}},
            "stop": ["a"],
            "metadata": {"a": "b"},
            "chat_template_kwargs": {"thinking": True},
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    ),
    (
        MessagesRequest,
        {
            "model": "m",
            "max_tokens": 2000,
            "system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image", "source": {"type": "url", "url": "http://x"}}],
                },
                {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "a",
                            "content": [{"type": "text", "text": "x"}],
                        }
                    ],
                },
            ],
            "tools": [{"name": "f", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "tool", "name": "f"},
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "metadata": {"user_id": "u"},
            "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}},
            "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
        },
    ),
    (
        ResponsesRequest,
        {
            "model": "m",
            "input": [
                {"role": "user", "content": [{"type": "input_image", "image_url": "http://x"}]},
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "x"}],
                },
                {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "a", "output": "x"},
                {"type": "reasoning", "id": "rs_1", "summary": []},
                {"type": "item_reference", "id": "x"},
            ],
            "tools": [{"type": "function", "name": "f", "parameters": {}}],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "f"}],
            },
            "text": {"format": {"type": "json_schema", "name": "x", "schema": {}}},
            "reasoning": {"effort": "low", "summary": "auto"},
            "include": ["reasoning.encrypted_content"],
        },
    ),
    (CompletionRequest, {"model": "m", "prompt": ["a"], "logprobs": None, "stop": "x"}),
    (ModerationRequest, {"model": "m", "input": [{"type": "text", "text": "x"}, IMAGE]}),
    (EmbeddingRequest, {"model": "m", "input": [[1]]}),
    (
        GuardrailRequest,
        {
            "input_type": "request",
            "texts": ["x"],
            "structured_messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
            "tools": [{"type": "function"}],
            "tool_calls": [CALL],
            "images": ["http://x"],
            "request_data": {"user_api_key_alias": "x"},
        },
    ),
]


@pytest.mark.parametrize(("model", "body"), BODIES, ids=lambda value: getattr(value, "__name__", ""))
def test_no_kind_of_value_in_any_place_is_a_defect(model: type[BaseModel], body: dict[str, Any]) -> None:
    """The body as it stands is accepted; with one value of it replaced, at worst it is refused."""
    validate(model, body)
    refused = 0
    for path in _places(body):
        for other in OTHERS:
            changed = _replaced(body, path, other)
            try:
                asked = validate(model, changed)
            except InvalidRequest:
                refused += 1
                continue
            getattr(asked, "judged", None)
    assert refused > 0


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value within a JSON value."""
    if path:
        yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inside:
        yield from _places(child, (*path, key))


def _replaced(body: Any, path: tuple[Any, ...], other: Any) -> Any:
    """A copy with another value in one place."""
    changed = deepcopy(body)
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = deepcopy(other)
    return changed
