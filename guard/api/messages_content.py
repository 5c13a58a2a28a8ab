"""The content of messages in Anthropic's shape: blocks of text, images, tool use and thinking.

Tags of unions begin with ``~``, so that they stay out of the field names that errors give.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Discriminator, Field, Tag
from typing_extensions import TypedDict

from guard.api.chat_request import Text

_STRICT = ConfigDict(extra="forbid")

Id = Annotated[str, Field(min_length=1, max_length=256)]


class CacheControl(TypedDict):
    """A mark for prompt caching."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["ephemeral"]
    ttl: NotRequired[Literal["5m", "1h"]]


def _form(value: Any) -> str:
    return "~text" if isinstance(value, str) else "~blocks"


_FORM = Discriminator(_form)
"""Chooses between a content that is one text and one that is blocks."""


def _tagged(*types: str) -> Discriminator:
    """Chooses the member of a union by the value's ``type``."""

    def tag(value: Any) -> str | None:
        kind = value.get("type") if isinstance(value, dict) else None
        return f"~{kind}" if kind in types else None

    return Discriminator(
        tag,
        custom_error_type="invalid_type",
        custom_error_message=f"must be an object whose type is one of {', '.join(types)}",
    )


class TextBlock(TypedDict):
    """A text."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["text"]
    text: Text
    cache_control: NotRequired[CacheControl | None]
    citations: NotRequired[Annotated[list[Any], Field(max_length=0)] | None]


class Base64Source(TypedDict):
    """An image as data."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["base64"]
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/\s]+={0,2}\s*$", max_length=20_000_000)]


class UrlSource(TypedDict):
    """An image by address."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["url"]
    url: Annotated[str, Field(pattern=r"^https?://", max_length=8192)]


class ImageBlock(TypedDict):
    """An image, passed to engines that see."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["image"]
    source: Annotated[
        Annotated[Base64Source, Tag("~base64")] | Annotated[UrlSource, Tag("~url")],
        _tagged("base64", "url"),
    ]
    cache_control: NotRequired[CacheControl | None]


InstructionContent = Annotated[
    Annotated[Text, Tag("~text")] | Annotated[list[TextBlock], Tag("~blocks")], _FORM
]
ResultBlock = Annotated[
    Annotated[TextBlock, Tag("~text")] | Annotated[ImageBlock, Tag("~image")], _tagged("text", "image")
]
ResultContent = Annotated[Annotated[Text, Tag("~text")] | Annotated[list[ResultBlock], Tag("~blocks")], _FORM]


class DirectCaller(TypedDict):
    """The model itself called a tool."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["direct"]


class ToolUseBlock(TypedDict):
    """A call that the assistant made earlier."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["tool_use"]
    id: Id
    name: Id
    input: dict[str, Any]
    cache_control: NotRequired[CacheControl | None]
    caller: NotRequired[DirectCaller | None]
    toolset_name: NotRequired[None]


class ThinkingBlock(TypedDict):
    """Thinking of an earlier answer, as the client says."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["thinking"]
    thinking: Text
    signature: NotRequired[str | None]


class RedactedThinkingBlock(TypedDict):
    """Thinking of an earlier answer that nobody can read."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["redacted_thinking"]
    data: Text


class ToolResultBlock(TypedDict):
    """What a tool returned."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["tool_result"]
    tool_use_id: Id
    content: NotRequired[ResultContent | None]
    is_error: NotRequired[bool | None]
    cache_control: NotRequired[CacheControl | None]
    toolset_name: NotRequired[None]


UserBlock = Annotated[
    Annotated[TextBlock, Tag("~text")]
    | Annotated[ImageBlock, Tag("~image")]
    | Annotated[ToolResultBlock, Tag("~tool_result")],
    _tagged("text", "image", "tool_result"),
]
AssistantBlock = Annotated[
    Annotated[TextBlock, Tag("~text")]
    | Annotated[ToolUseBlock, Tag("~tool_use")]
    | Annotated[ThinkingBlock, Tag("~thinking")]
    | Annotated[RedactedThinkingBlock, Tag("~redacted_thinking")],
    _tagged("text", "tool_use", "thinking", "redacted_thinking"),
]
UserContent = Annotated[
    Annotated[Text, Tag("~text")] | Annotated[list[UserBlock], Field(min_length=1), Tag("~blocks")], _FORM
]
AssistantContent = Annotated[
    Annotated[Text, Tag("~text")] | Annotated[list[AssistantBlock], Field(min_length=1), Tag("~blocks")],
    _FORM,
]
