"""What ``POST /v1/completions`` accepts: OpenAI's legacy endpoint, as far as a deliberated answer allows.

A prompt is not continued, it is answered: it becomes the one user message of a chat.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from guard.api.chat_request import StreamOptions, Text
from guard.api.refused_fields import HARMLESS, REFUSED, without_refused

MAX_TOKENS = 16
"""OpenAI's limit for the answer where the client sets none."""


def _form(value: Any) -> str:
    return "~text" if isinstance(value, str) else "~texts"


class CompletionRequest(BaseModel):
    """A completion request, checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(min_length=1, max_length=256)]
    prompt: Annotated[
        Annotated[Text, Tag("~text")] | Annotated[list[Text], Field(min_length=1), Tag("~texts")],
        Discriminator(_form),
    ]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    best_of: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = MAX_TOKENS
    stop: str | Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_by_reason(cls, value: Any) -> Any:
        value = without_refused(value, _REFUSED, _HARMLESS)
        prompt = value.get("prompt") if isinstance(value, dict) else None
        if isinstance(prompt, list) and any(isinstance(item, int | list) for item in prompt):
            raise ValueError(f"prompt: {_TOKEN_IDS}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> CompletionRequest:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: only allowed with stream: true")
        if self.best_of not in (None, self.n or 1):
            raise ValueError(f"best_of: {_BEST_OF}")
        return self

    @property
    def prompts(self) -> list[str]:
        """The prompts, each answered by itself."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


_TOKEN_IDS = "token ids are not accepted, since a prompt must be read before it is answered; send text"
_BEST_OF = "answers are not chosen by token probabilities, which are not offered; use n"
_REFUSED = {**REFUSED, "suffix": "a prompt is answered; text before a given end is not filled in"}
_HARMLESS = {**HARMLESS, "suffix": (None, ""), "logprobs": (None,)}
