"""What ``POST /v1/responses`` accepts, and how it names what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from guard.api.body import validate
from guard.api.responses_request import ResponsesRequest
from guard.errors import InvalidRequest

IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}


def asked(**fields: Any) -> dict[str, Any]:
    """A minimal request with these fields."""
    return {"model": "default", "input": "Hi", **fields}


def user(content: Any, **fields: Any) -> dict[str, Any]:
    """A request with one user message."""
    return asked(input=[{"role": "user", "content": content}], **fields)


FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"model": "default"}, "input", "required"),
        ({"input": "Hi"}, "model", "required"),
        (asked(input=[]), "input", "at least 1"),
        (asked(input=7), "input", "list"),
        (asked(input=["Hi"]), "input.0", "must be an item"),
        (asked(input=[{"role": "wizard", "content": "x"}]), "input.0", "must be an item"),
        (asked(input=[{"type": "web_search_call", "id": "ws_1"}]), "input.0", "must be an item"),
        (asked(input=[{"type": "message", "role": "user"}]), "input.0.content", "required"),
        (user(7), "input.0.content", "list"),
        (user([]), "input.0.content", "at least 1"),
        (user([{"type": "input_file", "file_id": "f"}]), "input.0.content.0", "input_text or input_image"),
        (user([{"type": "input_image", "file_id": "f"}]), "input.0.content.0.image_url", "required"),
        (user([{"type": "input_text", "text": 7}]), "input.0.content.0.text", "string"),
        (asked(input=[{"role": "system", "content": [IMAGE]}]), "input.0.content.0", "input_text"),
        (asked(input=[{"role": "user", "content": "x", "trust": 1}]), "input.0.trust", "not supported"),
        (
            asked(input=[{"type": "function_call", "call_id": "c", "name": "f"}]),
            "input.0.arguments",
            "required",
        ),
        (
            asked(input=[{"type": "function_call_output", "call_id": "c", "output": [IMAGE]}]),
            "input.0.output.0",
            "input_text",
        ),
        (asked(tools=[{"type": "web_search"}]), "tools.0", "hosted tools are not offered"),
        (asked(tools=[{**FUNCTION, "name": "a b"}]), "tools.0.name", "pattern"),
        (asked(tools=[{"type": "function", "function": {"name": "f"}}]), "tools.0.name", "required"),
        (asked(tool_choice="required"), "tool_choice", "only allowed with tools"),
        (asked(tool_choice={"type": "function", "name": "g"}, tools=[FUNCTION]), "tool_choice", "'g'"),
        (asked(tool_choice={"type": "file_search"}, tools=[FUNCTION]), "tool_choice", "must be none"),
        (asked(text={"format": {"type": "yaml"}}), "text.format", "json_schema"),
        (asked(text={"format": {"type": "json_schema", "name": "x"}}), "text.format.schema", "required"),
        (asked(text={"verbosity": "low"}), "text.verbosity", "medium"),
        (asked(reasoning={"effort": "none"}), "reasoning.effort", "would switch the thinking off"),
        (asked(reasoning={"effort": "minimal"}), "reasoning.effort", "would switch the thinking off"),
        (asked(reasoning={"summary": "concise"}), "reasoning.summary", "'auto' or 'detailed'"),
        (asked(reasoning={"context": "all_turns"}), "reasoning.context", "current_turn"),
        (asked(background=True), "background", "background"),
        (asked(conversation="conv_1"), "conversation", "previous_response_id"),
        (asked(truncation="auto"), "truncation", "never shortened"),
        (asked(prompt={"id": "pmpt_1"}), "prompt", "not kept"),
        (asked(moderation={"model": ""}), "moderation.model", "at least 1 character"),
        (asked(service_tier="flex"), "service_tier", "one tier"),
        (asked(top_logprobs=3), "top_logprobs", "probabilities"),
        (asked(include=["message.output_text.logprobs"]), "include.0", "Input should be"),
        (asked(metadata={"k": 7}), "metadata.k", "string"),
        (asked(metadata={str(n): "" for n in range(17)}), "metadata", "at most 16"),
        (asked(max_output_tokens=0), "max_output_tokens", "greater"),
        (asked(temperature=3), "temperature", "less"),
        (asked(stream_options={"include_obfuscation": False}), "stream_options", "stream: true"),
        (
            asked(stream=True, stream_options={"include_obfuscation": True}),
            "stream_options.include_obfuscation",
            "False",
        ),
        (asked(stop=["x"]), "stop", "not supported"),
        (asked(include_reasoning=False), "include_reasoning", "not supported"),
        (asked(enable_thinking=False), "enable_thinking", "switch the thinking"),
        (
            asked(chat_template_kwargs={"enable_thinking": False}),
            "chat_template_kwargs.enable_thinking",
            "switch the thinking",
        ),
        (asked(continue_final_message=True), "continue_final_message", "switch the thinking"),
        (asked(echo=True), "echo", "show the prompt"),
        (asked(logit_bias={"1": 100}), "logit_bias", "aimed at the decision"),
    ],
)
def test_what_is_refused_is_named(body: dict[str, Any], param: str, words: str) -> None:
    """A field that cannot be honoured is refused by its name, with the reason."""
    with pytest.raises(InvalidRequest) as refused:
        validate(ResponsesRequest, body)

    assert refused.value.param == param
    assert words in refused.value.message


@pytest.mark.parametrize(
    "fields",
    [
        {"background": False, "truncation": "disabled", "service_tier": "auto", "moderation": None},
        {"include": [], "tools": [], "tool_choice": "auto", "metadata": {}, "top_logprobs": 0},
        {"include": ["reasoning.encrypted_content"], "store": False},
        {"reasoning": {"effort": "low", "summary": "auto"}, "text": {"format": {"type": "text"}}},
        {"text": {"verbosity": "medium"}, "max_tool_calls": 3, "parallel_tool_calls": True},
        {"user": "u", "safety_identifier": "s", "prompt_cache_key": "k", "prompt": None},
        {"stream": True, "stream_options": {"include_obfuscation": False}},
        {"input": [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}]},
        {"input": [{"id": "msg_1"}, {"type": "item_reference", "id": "msg_1"}]},
    ],
)
def test_harmless_values_are_accepted(fields: dict[str, Any]) -> None:
    """What clients send as defaults, and what is honoured, is no reason to refuse."""
    validate(ResponsesRequest, asked(**fields))


def test_a_response_is_kept_unless_the_client_says_otherwise() -> None:
    """As with OpenAI, store is on when it is left out or null."""
    kept = [validate(ResponsesRequest, asked(**f)).stored for f in ({}, {"store": None}, {"store": False})]

    assert kept == [True, True, False]
