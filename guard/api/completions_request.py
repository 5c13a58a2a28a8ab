"""What ``POST /v1/completions`` accepts: OpenAI's legacy endpoint, as far as a deliberated answer allows.

A prompt is not continued, it is answered: it becomes the one user message of a chat.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from guard.api.chat_request import Text
from guard.api.refused_fields import HARMLESS, REFUSED, without_refused
from guard.api.sampling_fields import ChoiceFields

MAX_TOKENS = 16
"""OpenAI's limit for the answer where the client sets none."""


def _form(value: Any) -> str:
    return "~text" if isinstance(value, str) else "~texts"


class CompletionRequest(ChoiceFields):
    """A completion request, checked."""

    prompt: Annotated[
        Annotated[Text, Tag("~text")] | Annotated[list[Text], Field(min_length=1), Tag("~texts")],
        Discriminator(_form),
    ]
    """Text; each is answered as the one user message of a chat."""
    best_of: Annotated[int, Field(ge=1)] | None = None
    """Only as many as ``n``: answers are not chosen by probabilities."""
    max_tokens: Annotated[int, Field(ge=1)] | None = MAX_TOKENS
    """Limits the visible answer; the thinking has tokens of its own."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_by_reason(cls, value: Any) -> Any:
        value = without_refused(value, REFUSED_HERE, HARMLESS_HERE)
        prompt = value.get("prompt") if isinstance(value, dict) else None
        if isinstance(prompt, list) and any(isinstance(item, int | list) for item in prompt):
            raise ValueError(f"prompt: {_TOKEN_IDS}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> CompletionRequest:
        if self.best_of not in (None, self.n or 1):
            raise ValueError(f"best_of: {_BEST_OF}")
        return self

    @property
    def prompts(self) -> list[str]:
        """The prompts, each answered by itself."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


_TOKEN_IDS = "token ids are not accepted, since a prompt must be read before it is answered; send text"
_BEST_OF = "answers are not chosen by token probabilities, which are not offered; use n"
REFUSED_HERE = {**REFUSED, "suffix": "a prompt is answered; text before a given end is not filled in"}
HARMLESS_HERE = {**HARMLESS, "suffix": (None, ""), "logprobs": (None,)}
