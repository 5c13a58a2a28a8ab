"""What ``POST /v1/chat/completions`` accepts.

Every field that is honoured stands here; any other is refused by name, since a field dropped in
silence is a bug in somebody's application. Fields that would silence the thinking or show the prompt
are refused with the reason.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator
from typing_extensions import TypedDict

from guard.api.chat_forms import FunctionName, ResponseFormat, ToolChoice
from guard.api.moderation_field import Moderation
from guard.api.refused_fields import HARMLESS, PROMPT_CACHES, REFUSED, without_refused
from guard.api.sampling_fields import ChoiceFields

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
    if role in ("system", "developer"):
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


class ChatRequest(ChoiceFields):
    """A chat completion request, checked."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    """Disarmed and set apart from the policy; thinking in them is not believed."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Limits the visible answer; the thinking has tokens of its own."""
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    """The newer name of ``max_tokens``."""
    logprobs: bool | None = None
    """Of the visible answer alone; null where the engine's tokens do not join to it."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """With ``logprobs``."""
    tools: Annotated[list[Tool], Field(min_length=1, max_length=128)] | None = None
    """Functions that the client runs; their texts are disarmed."""
    tool_choice: ToolChoice | None = None
    """A call that is forced is made after the thinking."""
    parallel_tool_calls: bool | None = None
    """Whether several tools may be called at once."""
    response_format: ResponseFormat | None = None
    """Forms the answer, after the thinking; the model is told of the schema before it."""
    verbosity: Literal["medium"] | None = None
    """Only the default: engines do not know others."""
    reasoning_effort: Literal["low", "medium", "high"] | None = None
    """Not ``none`` and not ``minimal``: every answer is deliberated."""
    moderation: Moderation | None = None
    """Whether the answer tells what was decided, and whether that is enforced."""
    include_reasoning: bool | None = None
    """Whether a key that may see the thinking wants it; never passed on."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_by_reason(cls, value: Any) -> Any:
        return without_refused(value, REFUSED_HERE, HARMLESS_HERE)

    @model_validator(mode="after")
    def _consistent(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: only allowed with logprobs: true")
        if self.tool_choice not in (None, "none") and not self.tools:
            raise ValueError("tool_choice: only allowed with tools")
        if isinstance(self.tool_choice, dict):
            name = self.tool_choice["function"]["name"]
            if name not in {tool["function"]["name"] for tool in self.tools or ()}:
                raise ValueError(f"tool_choice: there is no tool named {name!r}")
        return self


_HERE = frozenset({"logprobs", "top_logprobs"})
_USE_TOOLS = "is the older form of tools; use those"
REFUSED_HERE = {
    **{field: reason for field, reason in REFUSED.items() if field not in _HERE},
    "audio": "answers are text",
    "function_call": _USE_TOOLS,
    "functions": _USE_TOOLS,
    "modalities": "answers are text",
    "prediction": "would put words into the answer before the thinking",
    "prompt_cache_options": PROMPT_CACHES,
    "prompt_cache_retention": PROMPT_CACHES,
    "service_tier": "there is one tier",
    "store": "completions are not stored for retrieval",
    "web_search_options": "nothing is searched on the web; offer a tool of your own",
}
HARMLESS_HERE = {
    **{field: values for field, values in HARMLESS.items() if field not in _HERE},
    "function_call": (None, "none"),
    "functions": (None, []),
    "modalities": (None, ["text"]),
    "prompt_cache_retention": (None, "in_memory"),
    "service_tier": (None, "auto", "default"),
    "store": (None, False),
}
