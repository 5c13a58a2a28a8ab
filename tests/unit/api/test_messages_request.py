"""What a request in Anthropic's shape may hold."""

from __future__ import annotations

from typing import Any

import pytest

from guard.api.body import validate
from guard.api.messages_request import Conversation, MessagesRequest
from guard.errors import InvalidRequest

TOOL = {"name": "look", "input_schema": {"type": "object"}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0="}}


def ask(**fields: Any) -> dict[str, Any]:
    """A minimal request."""
    messages = [{"role": "user", "content": "Hello."}]
    return {"model": "default", "max_tokens": 100, "messages": messages, **fields}


def user(*blocks: Any) -> dict[str, Any]:
    """A request whose user message is these blocks."""
    return ask(messages=[{"role": "user", "content": list(blocks)}])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "default", "messages": [{"role": "user", "content": "x"}]}, "max_tokens"),
        (ask(max_tokens=0), "max_tokens"),
        (ask(messages=[]), "messages"),
        (ask(messages=[{"role": "tool", "content": "x"}]), "messages.0"),
        (ask(messages=[{"role": "user", "content": []}]), "messages.0.content"),
        (ask(messages=[{"role": "user", "content": 7}]), "messages.0.content"),
        (ask(messages=[{"role": "assistant", "content": "The best answer is ("}]), "messages"),
        (user({"type": "document", "source": {}}), "messages.0.content.0"),
        (user({"type": "thinking", "thinking": "x", "signature": "y"}), "messages.0.content.0"),
        (user({"type": "text", "text": "x", "extra": 1}), "messages.0.content.0.extra"),
        (user({"type": "image", "source": {"type": "file", "file_id": "f"}}), "messages.0.content.0.source"),
        (
            user({"type": "image", "source": {"type": "url", "url": "file:///etc/passwd"}}),
            "messages.0.content.0.source.url",
        ),
        (ask(temperature=1.5), "temperature"),
        (ask(top_k=-1), "top_k"),
        (ask(stop_sequences=[""]), "stop_sequences.0"),
        (ask(tools=[{"name": "look"}]), "tools.0.input_schema"),
        (ask(tools=[{"name": "no spaces", "input_schema": {}}]), "tools.0.name"),
        (ask(tools=[{"type": "web_search_20250305", "name": "web_search"}]), "tools.0"),
        (ask(tools=[{**TOOL, "input_examples": [{}]}]), "tools.0.input_examples"),
        (ask(tool_choice={"type": "any"}), "tool_choice"),
        (ask(tools=[TOOL], tool_choice={"type": "tool"}), "tool_choice"),
        (ask(tools=[TOOL], tool_choice={"type": "tool", "name": "other"}), "tool_choice"),
        (ask(tools=[TOOL], tool_choice={"type": "auto", "name": "look"}), "tool_choice"),
        (ask(thinking={"type": "enabled"}), "thinking"),
        (ask(thinking={"type": "enabled", "budget_tokens": 512}), "thinking.budget_tokens"),
        (ask(thinking={"type": "enabled", "budget_tokens": 1024}), "thinking"),
        (ask(thinking={"type": "adaptive", "budget_tokens": 1024}, max_tokens=9000), "thinking"),
        (ask(output_config={"effort": "none"}), "output_config.effort"),
        (ask(container="c"), "container"),
        (ask(mcp_servers=[{"url": "x"}]), "mcp_servers"),
        (ask(context_management={"edits": [{"type": "clear_tool_uses_20250919"}]}), "context_management"),
        (ask(context_management={"edits": [], "more": 1}), "context_management"),
        (ask(speed="fast"), "speed"),
        (ask(chat_template_kwargs={"enable_thinking": False}), "chat_template_kwargs"),
        (ask(logit_bias={"1": -100}), "logit_bias"),
        (ask(n=2), "n"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    """Every field that would be dropped, and every value out of bounds, is named."""
    with pytest.raises(InvalidRequest) as raised:
        validate(MessagesRequest, body)

    assert (raised.value.param or "").startswith(param)
    assert param in raised.value.message


@pytest.mark.parametrize(
    "fields",
    [
        {"service_tier": "auto", "speed": None, "mcp_servers": [], "stop_sequences": None},
        {"cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]},
        {"tools": [{**TOOL, "type": "custom", "cache_control": None, "defer_loading": False}]},
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "look", "disable_parallel_tool_use": True}},
        {"tools": [], "tool_choice": {"type": "none"}},
        {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}},
        {"thinking": {"type": "disabled"}},
        {"thinking": {"type": "adaptive", "display": "omitted"}},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 1025},
        {"metadata": {"user_id": "u-1"}, "top_k": 40, "top_p": 0.9, "temperature": 1},
    ],
)
def test_what_clients_send_is_accepted(fields: dict[str, Any]) -> None:
    """Caching marks, defaults and every honoured field pass."""
    assert validate(MessagesRequest, ask(**fields)).model == "default"


def test_a_conversation_with_tools_images_and_thinking_is_accepted() -> None:
    """What the official client sends back after a tool call is taken, thinking blocks included."""
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, IMAGE]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Decision: comply", "signature": "s"},
                {"type": "redacted_thinking", "data": "AAAA"},
                {"type": "text", "text": "Let me look.", "citations": None},
                {"type": "tool_use", "id": "t1", "name": "look", "input": {}, "caller": {"type": "direct"}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [IMAGE]}]},
    ]

    assert len(validate(MessagesRequest, ask(messages=messages)).messages) == 3


def test_counting_takes_no_sampling() -> None:
    """The token count needs no max_tokens and refuses what could not change it."""
    body = ask()
    del body["max_tokens"]

    assert validate(Conversation, body).model == "default"
    with pytest.raises(InvalidRequest, match="temperature"):
        validate(Conversation, body | {"temperature": 1})
