"""The input items of ``POST /v1/responses``: messages, calls with their results, reasoning, references.

Tags of unions begin with ``~``, so that they stay out of the field names that errors give.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Discriminator, Field, Tag
from typing_extensions import TypedDict

from guard.api.chat_request import ImageAddress, Text

_STRICT = ConfigDict(extra="forbid")

Id = Annotated[str, Field(max_length=256)]
Status = Literal["in_progress", "completed", "incomplete"] | None


class InputText(TypedDict):
    """A text from the client."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["input_text"]
    text: Text


class InputImage(TypedDict):
    """An image by address or as data, passed to engines that see."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["input_image"]
    image_url: ImageAddress
    detail: NotRequired[Literal["auto", "low", "high"] | None]
    file_id: NotRequired[None]


class OutputText(TypedDict):
    """A text of an earlier answer."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["output_text"]
    text: Text
    annotations: NotRequired[Any]
    logprobs: NotRequired[Any]


class Refusal(TypedDict):
    """An earlier refusal."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["refusal"]
    refusal: Text


def text_or_parts(value: Any) -> str:
    """The tag of a content: one text, or a list of parts."""
    return "~text" if isinstance(value, str) else "~parts"


def _type(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else None
    return f"~{kind}" if isinstance(kind, str) else None


def _only(*kinds: str) -> Discriminator:
    message = f"must be a part whose type is {' or '.join(kinds)}"
    return Discriminator(_type, custom_error_type="invalid_part", custom_error_message=message)


TextPart = Annotated[Annotated[InputText, Tag("~input_text")], _only("input_text")]
UserPart = Annotated[
    Annotated[InputText, Tag("~input_text")] | Annotated[InputImage, Tag("~input_image")],
    _only("input_text", "input_image"),
]
AnswerPart = Annotated[
    Annotated[OutputText, Tag("~output_text")] | Annotated[Refusal, Tag("~refusal")],
    _only("output_text", "refusal"),
]
Texts = Annotated[
    Annotated[Text, Tag("~text")] | Annotated[list[TextPart], Field(min_length=1), Tag("~parts")],
    Discriminator(text_or_parts),
]


class InstructionItem(TypedDict):
    """A system or developer message."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: NotRequired[Literal["message"]]
    role: Literal["system", "developer"]
    content: Texts
    id: NotRequired[Id | None]
    status: NotRequired[Status]


class UserItem(TypedDict):
    """What a user says."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: NotRequired[Literal["message"]]
    role: Literal["user"]
    content: Annotated[
        Annotated[Text, Tag("~text")] | Annotated[list[UserPart], Field(min_length=1), Tag("~parts")],
        Discriminator(text_or_parts),
    ]
    id: NotRequired[Id | None]
    status: NotRequired[Status]


class AssistantItem(TypedDict):
    """An earlier answer."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: NotRequired[Literal["message"]]
    role: Literal["assistant"]
    content: Annotated[
        Annotated[Text, Tag("~text")] | Annotated[list[AnswerPart], Tag("~parts")],
        Discriminator(text_or_parts),
    ]
    id: NotRequired[Id | None]
    status: NotRequired[Status]
    phase: NotRequired[Literal["commentary", "final_answer"] | None]


class FunctionCallItem(TypedDict):
    """A call that the model made earlier."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["function_call"]
    call_id: Annotated[str, Field(min_length=1, max_length=256)]
    name: Annotated[str, Field(min_length=1, max_length=128)]
    arguments: Text
    id: NotRequired[Id | None]
    status: NotRequired[Status]
    namespace: NotRequired[None]
    caller: NotRequired[None]


class FunctionCallOutputItem(TypedDict):
    """What a called function gave back."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["function_call_output"]
    call_id: Annotated[str, Field(min_length=1, max_length=256)]
    output: Texts
    id: NotRequired[Id | None]
    status: NotRequired[Status]
    name: NotRequired[Id | None]


class ReasoningItem(TypedDict):
    """Reasoning sent back: accepted, and not believed."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: Literal["reasoning"]
    id: NotRequired[Id | None]
    summary: NotRequired[Any]
    content: NotRequired[Any]
    encrypted_content: NotRequired[Any]
    status: NotRequired[Any]


class ItemReference(TypedDict):
    """An item of a stored response."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    type: NotRequired[Literal["item_reference"] | None]
    id: Id


_TYPES = ("message", "function_call", "function_call_output", "reasoning", "item_reference")
_ROLES = {"system": "~instruction", "developer": "~instruction", "user": "~user", "assistant": "~assistant"}


def _item(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    kind = value.get("type") or ("message" if "role" in value else "item_reference")
    if kind == "message":
        role = value.get("role")
        return _ROLES.get(role) if isinstance(role, str) else None
    return f"~{kind}" if kind in _TYPES else None


Item = Annotated[
    Annotated[InstructionItem, Tag("~instruction")]
    | Annotated[UserItem, Tag("~user")]
    | Annotated[AssistantItem, Tag("~assistant")]
    | Annotated[FunctionCallItem, Tag("~function_call")]
    | Annotated[FunctionCallOutputItem, Tag("~function_call_output")]
    | Annotated[ReasoningItem, Tag("~reasoning")]
    | Annotated[ItemReference, Tag("~item_reference")],
    Discriminator(
        _item,
        custom_error_type="invalid_item",
        custom_error_message=(
            f"must be an item whose type is one of {', '.join(_TYPES)}; "
            f"a message's role is one of {', '.join(_ROLES)}"
        ),
    ),
]
Input = Annotated[
    Annotated[Text, Tag("~text")] | Annotated[list[Item], Field(min_length=1), Tag("~parts")],
    Discriminator(text_or_parts),
]
