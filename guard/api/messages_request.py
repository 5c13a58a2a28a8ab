"""What ``POST /v1/messages`` accepts, in Anthropic's shape.

As for chat completions: what is honoured stands here, everything else is refused by name. Prompt
caching marks (``cache_control``) are accepted and ask for nothing: the engine caches prefixes by itself.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from typing_extensions import TypedDict

from guard.api.chat_request import Text
from guard.api.messages_content import (
    AssistantContent,
    CacheControl,
    InstructionContent,
    UserContent,
)
from guard.api.refused_fields import HARMLESS, REFUSED, SILENCES, without_refused

_STRICT = ConfigDict(extra="forbid")

ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]


class SystemMessage(TypedDict):
    """An instruction between the turns."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    role: Literal["system"]
    content: InstructionContent


class UserMessage(TypedDict):
    """What a user says, and what tools returned."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    role: Literal["user"]
    content: UserContent


class AssistantMessage(TypedDict):
    """An earlier answer; thinking sent along is accepted and not believed."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    role: Literal["assistant"]
    content: AssistantContent


def _role(value: Any) -> str | None:
    role = value.get("role") if isinstance(value, dict) else None
    return f"~{role}" if role in ("system", "user", "assistant") else None


AnyMessage = Annotated[
    Annotated[SystemMessage, Tag("~system")]
    | Annotated[UserMessage, Tag("~user")]
    | Annotated[AssistantMessage, Tag("~assistant")],
    Discriminator(
        _role,
        custom_error_type="invalid_role",
        custom_error_message="must be a message object whose role is user, assistant or system",
    ),
]


class Tool(TypedDict):
    """A tool that the client runs."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    name: ToolName
    input_schema: dict[str, Any]
    description: NotRequired[Text | None]
    type: NotRequired[Literal["custom"] | None]
    strict: NotRequired[bool | None]
    cache_control: NotRequired[CacheControl | None]
    eager_input_streaming: NotRequired[bool | None]
    defer_loading: NotRequired[Literal[False] | None]
    allowed_callers: NotRequired[list[Literal["direct"]] | None]


class ToolChoice(TypedDict):
    """Whether tools may or must be used."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["auto", "any", "tool", "none"]
    name: NotRequired[ToolName]
    disable_parallel_tool_use: NotRequired[bool]


class Thinking(TypedDict):
    """Whether the client wants to see the thinking; whether there is one is not its choice."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["enabled", "adaptive", "between_tools", "disabled"]
    budget_tokens: NotRequired[Annotated[int, Field(ge=1024)]]
    display: NotRequired[Literal["summarized", "omitted"] | None]


class OutputFormat(TypedDict):
    """A JSON schema for the answer."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(TypedDict):
    """Effort and form of the answer."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    effort: NotRequired[Literal["low", "medium", "high", "xhigh", "max"] | None]
    format: NotRequired[OutputFormat | None]


class Metadata(TypedDict):
    """Who the end user is."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    user_id: NotRequired[Annotated[str, Field(max_length=512)] | None]


class Conversation(BaseModel):
    """What is before the model; all that ``count_tokens`` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    model: Annotated[str, Field(min_length=1, max_length=256)]
    """``default``, or the engine's own name of its model."""
    messages: Annotated[list[AnyMessage], Field(min_length=1)]
    """Disarmed and set apart from the policy; thinking in them is not believed."""
    system: InstructionContent | None = None
    """The application's own system prompt, after the policy."""
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    """Functions that the client runs; their texts are disarmed."""
    tool_choice: ToolChoice | None = None
    """A call that is forced is made after the thinking."""
    thinking: Thinking | None = None
    """Whether the thinking is shown, to keys that may see it; the model thinks in any case."""
    output_config: OutputConfig | None = None
    """Effort and form of the answer, which is formed after the thinking."""
    cache_control: CacheControl | None = None
    """Accepted; the engine caches prefixes by itself."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_by_reason(cls, value: Any) -> Any:
        return without_refused(_without_clearing(value), REFUSED_HERE, HARMLESS_HERE)

    @model_validator(mode="after")
    def _consistent(self) -> Conversation:
        if self.messages[-1]["role"] == "assistant":
            raise ValueError(
                f"messages: the last one is the assistant's; words put into its mouth {_PREFILL}"
            )
        _check_tool_choice(self.tool_choice, self.tools or [])
        if self.thinking and (self.thinking["type"] == "enabled") != ("budget_tokens" in self.thinking):
            raise ValueError("thinking: budget_tokens belongs to type enabled, and to no other")
        return self


class MessagesRequest(Conversation):
    """A request for a message, checked."""

    max_tokens: Annotated[int, Field(ge=1)]
    """Limits the visible answer; the thinking has tokens of its own."""
    stream: bool | None = None
    """Whether the answer comes as server-sent events."""
    stop_sequences: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(max_length=16)] | None
    ) = None
    """Cut the visible answer; the engine never sees them."""
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    metadata: Metadata | None = None
    """``user_id`` stands in the record, and goes to the engine as ``user``."""

    @model_validator(mode="after")
    def _budget_within_limit(self) -> MessagesRequest:
        if self.thinking and self.thinking.get("budget_tokens", 0) >= self.max_tokens:
            raise ValueError("thinking: budget_tokens must be less than max_tokens")
        return self


def _without_clearing(value: Any) -> Any:
    """A request without edits of the thinking in its history: no such thinking is passed on anyway."""
    managed = value.get("context_management") if isinstance(value, dict) else None
    if not isinstance(managed, dict) or managed.keys() != {"edits"} or not isinstance(managed["edits"], list):
        return value
    edits = managed["edits"]
    if not all(isinstance(edit, dict) and edit.get("type") == _CLEAR_THINKING for edit in edits):
        return value
    return {field: item for field, item in value.items() if field != "context_management"}


def _check_tool_choice(choice: ToolChoice | None, tools: list[Tool]) -> None:
    if choice is None:
        return
    if choice["type"] != "none" and not tools:
        raise ValueError("tool_choice: only allowed with tools")
    if (choice["type"] == "tool") != ("name" in choice):
        raise ValueError("tool_choice: name belongs to type tool, and to no other")
    if "name" in choice and choice["name"] not in {tool["name"] for tool in tools}:
        raise ValueError(f"tool_choice: there is no tool {choice['name']!r}")


_CLEAR_THINKING = "clear_thinking_20251015"
_PREFILL = "would come before the thinking, and every answer here is deliberated; end with a user message"
REFUSED_HERE = {
    **REFUSED,
    "chat_template_kwargs": SILENCES,
    "container": "code is not run by the guard",
    "mcp_servers": "tools are run by the client, not by the guard",
    "context_management": "the conversation is answered as it is sent",
    "inference_geo": "there is one place of inference, the engine's",
    "service_tier": "there is one tier",
    "speed": "there is one speed",
    "diagnostics": "prompt caching is the engine's own",
    "user_profile_id": "there are no user profiles",
    "workspace_id": "there are no workspaces",
}
HARMLESS_HERE = {
    **HARMLESS,
    "mcp_servers": (None, []),
    "service_tier": (None, "auto", "standard_only"),
    "speed": (None, "standard"),
}
