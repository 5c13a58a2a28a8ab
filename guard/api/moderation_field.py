"""The field ``moderation`` of chat completions and responses, in OpenAI's shape."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

_STRICT = ConfigDict(extra="forbid")


class Mode(TypedDict):
    """What is done about one side."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    mode: Literal["score", "block"]


class Sides(TypedDict):
    """What is done about request and answer."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    input: NotRequired[Mode | None]
    output: NotRequired[Mode | None]


class Moderation(TypedDict):
    """The client wants to know what was decided."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    model: Annotated[str, Field(min_length=1, max_length=256)]
    policy: NotRequired[Sides | None]


def blocks(asked: Moderation | None) -> bool:
    """Whether the client asks for enforcement."""
    sides = asked.get("policy") if asked else None
    if not sides:
        return False
    chosen = (sides.get("input"), sides.get("output"))
    return any(side is not None and side["mode"] == "block" for side in chosen)
