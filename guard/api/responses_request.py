"""What ``POST /v1/responses`` accepts; everything else is refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator
from typing_extensions import TypedDict

from guard.api.chat_forms import FunctionName, PlainFormat, form_tag
from guard.api.moderation_field import Moderation
from guard.api.refused_fields import HARMLESS, PROMPT_CACHES, REFUSED, SILENCES, without_refused
from guard.api.responses_input import Input
from guard.api.sampling_fields import SamplingFields

_STRICT = ConfigDict(extra="forbid")
_FROZEN = ConfigDict(extra="forbid", frozen=True)


class FunctionTool(TypedDict):
    """A function the model may call."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["function"]
    name: FunctionName
    description: NotRequired[str | None]
    parameters: NotRequired[dict[str, Any] | None]
    strict: NotRequired[bool | None]


class NamedFunction(TypedDict):
    """A function by name: the one to call, or one of those allowed."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["function"]
    name: FunctionName


class AllowedTools(TypedDict):
    """The tools of which the model may call one, or must."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedFunction], Field(min_length=1, max_length=128)]


class SchemaFormat(TypedDict):
    """JSON under a schema."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["json_schema"]
    name: FunctionName
    schema: dict[str, Any]
    description: NotRequired[str | None]
    strict: NotRequired[bool | None]


def _one_of(message: str) -> Discriminator:
    return Discriminator(form_tag, custom_error_type="invalid_type", custom_error_message=message)


Tool = Annotated[
    Annotated[FunctionTool, Tag("~function")],
    _one_of("must be a tool of type function; hosted tools are not offered"),
]
ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("~word")]
    | Annotated[NamedFunction, Tag("~function")]
    | Annotated[AllowedTools, Tag("~allowed_tools")],
    _one_of("must be none, auto, required, a function or allowed_tools"),
]
Format = Annotated[
    Annotated[PlainFormat, Tag("~text")]
    | Annotated[PlainFormat, Tag("~json_object")]
    | Annotated[SchemaFormat, Tag("~json_schema")],
    _one_of("type must be text, json_object or json_schema"),
]


class TextOptions(BaseModel):
    """The form of the answer."""

    model_config = _FROZEN

    format: Format | None = None
    verbosity: Literal["medium"] | None = None
    """Only the default: engines do not know others."""


class ReasoningOptions(BaseModel):
    """How much to think, and what of it to show."""

    model_config = _FROZEN

    effort: Literal["low", "medium", "high"] | None = None
    summary: Literal["auto", "detailed"] | None = None
    """Show the thinking as a summary in place of reasoning text, to keys that may see it."""
    generate_summary: Literal["auto", "detailed"] | None = None
    """The older name of ``summary``."""
    context: Literal["auto", "current_turn"] | None = None
    """Only the default: no thinking is taken over from earlier turns."""
    mode: Literal["standard"] | None = None

    @field_validator("effort", mode="before")
    @classmethod
    def _thinks(cls, value: Any) -> Any:
        if value in ("none", "minimal"):
            raise ValueError(f"{value!r} {SILENCES}")
        return value


class StreamOptions(BaseModel):
    """Options of a stream."""

    model_config = _FROZEN

    include_obfuscation: Literal[False] | None = None


Includable = Literal[
    "reasoning.encrypted_content",
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]
"""What a client may ask to have included. Image addresses always are; the others belong to items that no
answer here has, encrypted reasoning among them: thinking is never taken back, so none is handed out."""


class ResponsesRequest(SamplingFields):
    """A request for a response, checked."""

    input: Input
    """Text or items, disarmed and set apart from the policy; reasoning items are not believed."""
    instructions: Annotated[str, Field(max_length=20_000_000)] | None = None
    """The application's own system prompt, after the policy."""
    previous_response_id: Annotated[str, Field(max_length=256)] | None = None
    """A response that the guard has stored for the same key."""
    store: bool | None = None
    """Whether the guard keeps the response; it does unless told otherwise."""
    stream_options: StreamOptions | None = None
    """Without obfuscation."""
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    """Limits the visible answer; the thinking has tokens of its own."""
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None
    """Limits hosted tools alone, of which there are none."""
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    """Functions that the client runs; their texts are disarmed."""
    tool_choice: ToolChoice | None = None
    """A call that is forced is made after the thinking."""
    parallel_tool_calls: bool | None = None
    """Whether several tools may be called at once."""
    text: TextOptions | None = None
    """The form of the answer, after the thinking."""
    reasoning: ReasoningOptions | None = None
    """How much to think, not ``none`` and not ``minimal``, and how it is shown to keys that may see it."""
    include: list[Includable] | None = None
    """Accepted; what it names belongs to items that no answer here has."""
    moderation: Moderation | None = None
    """Whether the answer tells what was decided, and whether that is enforced."""

    @property
    def stored(self) -> bool:
        """Whether the response is kept for its id; so it is unless the client says otherwise."""
        return self.store is not False

    @property
    def structured(self) -> bool:
        """Whether the client parses the answer."""
        wanted = self.text.format if self.text else None
        return wanted is not None and wanted["type"] != "text"

    @property
    def summary(self) -> Literal["auto", "detailed"] | None:
        """Whether thinking is shown as a summary, where it is shown."""
        return (self.reasoning.summary or self.reasoning.generate_summary) if self.reasoning else None

    @model_validator(mode="before")
    @classmethod
    def _refuse_by_reason(cls, value: Any) -> Any:
        return without_refused(value, REFUSED_HERE, HARMLESS_HERE)

    @model_validator(mode="after")
    def _consistent(self) -> ResponsesRequest:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: only allowed with stream: true")
        names = {tool["name"] for tool in self.tools or ()}
        if self.tool_choice == "required" and not names:
            raise ValueError("tool_choice: only allowed with tools")
        if isinstance(self.tool_choice, dict):
            wanted = (
                [self.tool_choice["name"]]
                if self.tool_choice["type"] == "function"
                else [tool["name"] for tool in self.tool_choice["tools"]]
            )
            for name in wanted:
                if name not in names:
                    raise ValueError(f"tool_choice: there is no tool named {name!r}")
        return self


REFUSED_HERE = {
    **REFUSED,
    "access_programs": "there are no access programmes",
    "background": "answers are not made in the background; wait for this one, or stream it",
    "background_options": "answers are not made in the background",
    "conversation": "conversations are not kept as objects; continue with previous_response_id",
    "context_management": "the input is never shortened",
    "truncation": "the input is never shortened; only disabled is accepted",
    "image": "no images are made here",
    "prompt": "prompt templates are not kept here",
    "prompt_cache_options": PROMPT_CACHES,
    "prompt_cache_retention": PROMPT_CACHES,
    "service_tier": "there is one tier",
}
HARMLESS_HERE = {
    **HARMLESS,
    "background": (None, False),
    "context_management": (None, []),
    "truncation": (None, "disabled"),
    "prompt_cache_retention": (None, "in_memory"),
    "service_tier": (None, "auto", "default"),
}
