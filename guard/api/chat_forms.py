"""The forms of an answer that a chat request can ask for: a JSON schema, a named function.

They reach an engine's own checks, whose complaints may repeat the whole request, prompt and all. So
nothing but the known forms passes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Discriminator, Field, Tag
from typing_extensions import TypedDict

_STRICT = ConfigDict(extra="forbid")

FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


class NamedFunction(TypedDict):
    """A function by its name."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    name: FunctionName


class NamedTool(TypedDict):
    """The function that the model must call."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["function"]
    function: NamedFunction


class PlainFormat(TypedDict):
    """Text, or any JSON object."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["text", "json_object"]


class Schema(TypedDict):
    """A JSON schema and its name."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    name: FunctionName
    description: NotRequired[str | None]
    schema: NotRequired[dict[str, Any] | None]
    strict: NotRequired[bool | None]


class SchemaFormat(TypedDict):
    """JSON under a schema."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["json_schema"]
    json_schema: Schema


def form_tag(value: Any) -> str | None:
    """The tag of a tool, a tool choice or a format: its type, or that it is a single word."""
    if isinstance(value, str):
        return "~word"
    kind = value.get("type") if isinstance(value, dict) else None
    return f"~{kind}" if isinstance(kind, str) else None


def _one_of(message: str) -> Discriminator:
    return Discriminator(form_tag, custom_error_type="invalid_type", custom_error_message=message)


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("~word")] | Annotated[NamedTool, Tag("~function")],
    _one_of("must be none, auto, required or a function"),
]
ResponseFormat = Annotated[
    Annotated[PlainFormat, Tag("~text")]
    | Annotated[PlainFormat, Tag("~json_object")]
    | Annotated[SchemaFormat, Tag("~json_schema")],
    _one_of("type must be text, json_object or json_schema"),
]
