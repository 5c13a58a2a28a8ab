"""What ``POST /v1/chat/completions`` accepts.

Every field that is honoured stands here; any other is refused by name, since a field dropped in
silence is a bug in somebody's application. Fields that would silence the thinking or show the prompt
are refused with the reason.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from typing_extensions import TypedDict

from guard.api.chat_forms import FunctionName, ResponseFormat, ToolChoice
from guard.api.moderation_field import ChatModeration
from guard.api.refused_fields import HARMLESS, REFUSED, without_refused

_STRICT = ConfigDict(extra="forbid")

Text = Annotated[str, Field(max_length=20_000_000)]
Name = Annotated[str, Field(pattern=r"^[^\s<|\\/>]{1,64}$")]
"""Of who speaks, as OpenAI has it: one word, so that no sentence hides in it."""
CalledName = Annotated[str, Field(pattern=r"^\S{1,128}$")]
"""Of a function that was called, whoever named it."""
ImageAddress = Annotated[Text, Field(pattern=r"^(?:https?://|data:image/)")]
"""On the web, or the image itself: some engines would read files of their own machine as well."""
CallId = Annotated[str, Field(min_length=1, max_length=512)]


class TextPart(TypedDict):
    """A text in a message of several parts."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["text"]
    text: Text


class ImageURL(TypedDict):
    """An image by address or as data."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    url: ImageAddress
    detail: NotRequired[Literal["auto", "low", "high"]]


class ImagePart(TypedDict):
    """An image in a user message, passed to engines that see."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["image_url"]
    image_url: ImageURL


class RefusalPart(TypedDict):
    """An earlier refusal, as some clients send it back."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["refusal"]
    refusal: Text


UserPart = Annotated[TextPart | ImagePart, Field(discriminator="type")]
AnswerPart = Annotated[TextPart | RefusalPart, Field(discriminator="type")]
TextContent = Text | Annotated[list[TextPart], Field(min_length=1)]


class InstructionMessage(TypedDict):
    """A system or developer message."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    role: Literal["system", "developer"]
    content: TextContent
    name: NotRequired[Name]


class UserMessage(TypedDict):
    """What a user says."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    role: Literal["user"]
    content: Text | Annotated[list[UserPart], Field(min_length=1)]
    name: NotRequired[Name]


class CalledFunction(TypedDict):
    """The function of a tool call, with its arguments as JSON text."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    name: CalledName
    arguments: Text


class ToolCall(TypedDict):
    """A call that the assistant made earlier."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    id: CallId
    type: Literal["function"]
    function: CalledFunction
    index: NotRequired[int]


class AssistantMessage(TypedDict):
    """An earlier answer; reasoning sent along is accepted and not believed."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    role: Literal["assistant"]
    content: NotRequired[Text | list[AnswerPart] | None]
    refusal: NotRequired[str | None]
    name: NotRequired[Name]
    tool_calls: NotRequired[list[ToolCall] | None]
    reasoning: NotRequired[Any]
    reasoning_content: NotRequired[Any]
    reasoning_details: NotRequired[Any]
    annotations: NotRequired[Any]
    audio: NotRequired[None]
    function_call: NotRequired[None]


class ToolMessage(TypedDict):
    """The result of a tool call."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    role: Literal["tool"]
    content: TextContent
    tool_call_id: CallId
    name: NotRequired[CalledName]


_ROLES = ("system", "developer", "user", "assistant", "tool")


def _role(value: Any) -> str | None:
    role = value.get("role") if isinstance(value, dict) else None
    if role in {"system", "developer"}:
        return "~instruction"
    return f"~{role}" if role in _ROLES else None


ChatMessage = Annotated[
    Annotated[InstructionMessage, Tag("~instruction")]
    | Annotated[UserMessage, Tag("~user")]
    | Annotated[AssistantMessage, Tag("~assistant")]
    | Annotated[ToolMessage, Tag("~tool")],
    Discriminator(
        _role,
        custom_error_type="invalid_role",
        custom_error_message=f"must be a message object whose role is one of {', '.join(_ROLES)}",
    ),
]


class Function(TypedDict):
    """A function the model may call."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    name: FunctionName
    description: NotRequired[str | None]
    parameters: NotRequired[dict[str, Any] | None]
    strict: NotRequired[bool | None]


class Tool(TypedDict):
    """A tool the model may call."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["function"]
    function: Function


class StreamOptions(BaseModel):
    """Options of a stream."""

    model_config = _STRICT
    include_usage: bool = False
    include_obfuscation: bool = False


class ChatRequest(BaseModel):
    """A chat completion request, checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(min_length=1, max_length=256)]
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: str | Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    tools: Annotated[list[Tool], Field(min_length=1, max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    reasoning_effort: Literal["low", "medium", "high"] | None = None
    moderation: ChatModeration | None = None
    """Whether the answer tells what was decided, and whether that is enforced."""
    include_reasoning: bool | None = None
    """Whether a key that may see the thinking wants it; never passed on."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_by_reason(cls, value: Any) -> Any:
        return without_refused(value, _REFUSED, _HARMLESS)

    @model_validator(mode="after")
    def _consistent(self) -> ChatRequest:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: only allowed with stream: true")
        if self.tool_choice not in (None, "none") and not self.tools:
            raise ValueError("tool_choice: only allowed with tools")
        if isinstance(self.tool_choice, dict):
            name = self.tool_choice["function"]["name"]
            if name not in {tool["function"]["name"] for tool in self.tools or ()}:
                raise ValueError(f"tool_choice: there is no tool named {name!r}")
        return self


_REFUSED = {**REFUSED, "store": "completions are not stored for retrieval"}
_HARMLESS = {**HARMLESS, "store": (None, False)}
