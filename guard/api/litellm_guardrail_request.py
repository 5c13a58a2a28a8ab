"""What LiteLLM's generic guardrail sends, and what of it is put before the model.

Its fields grow with every release of LiteLLM, and most that is about its own keys, headers and models is
not read here: unlike everywhere else, unknown fields are no error. Nothing in the body chooses a policy
or loosens anything, since LiteLLM's own clients can add to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from guard.api.chat_request import ImageAddress, Text
from guard.api.moderations_request import AS_DATA, MOST_INPUTS, Judged, mark_of
from guard.api.sampling_fields import Label

CONVERSATION = f"""\
{AS_DATA} It is a conversation with an assistant; a line of dashes before each part says whose it is. Decide \
how the policy rules on what the assistant is to answer now, in the light of all parts. The decision is \
about that request and not about the classifying."""
ANSWER = f"""\
{AS_DATA} It is what an assistant answered. Decide how the policy rules on it as if you were asked to write \
it. The decision is about that answer and not about the classifying."""

_CALLERS = (
    "user_api_key_alias",
    "user_api_key_user_id",
    "user_api_key_team_id",
    "user_api_key_end_user_id",
)
"""What LiteLLM says of its own caller that goes into the record; no key and no address."""


class Part(NamedTuple):
    """A text of a conversation."""

    speaker: str
    text: str


class GuardrailRequest(BaseModel):
    """A call of LiteLLM's guardrail, as far as it is read."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    input_type: Literal["request", "response"]
    texts: list[Text] | None = None
    structured_messages: list[dict[str, Any]] | None = None
    """The conversation in the shape of chat completions, where the request has one."""
    images: Annotated[list[ImageAddress], Field(max_length=MOST_INPUTS)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    litellm_call_id: Label | None = None
    litellm_trace_id: Label | None = None
    request_data: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _few_answers(self) -> GuardrailRequest:
        if self.input_type == "response" and len(self.texts or ()) > MOST_INPUTS:
            raise ValueError(f"texts: at most {MOST_INPUTS} answers are judged at once")
        return self

    @property
    def labels(self) -> dict[str, str]:
        """What leads from a record to LiteLLM's own log."""
        given = self.request_data or {}
        ids = {"litellm_call_id": self.litellm_call_id, "litellm_trace_id": self.litellm_trace_id}
        told = {**ids, **{name: given.get(name) for name in _CALLERS}}
        return {name: value[:512] for name, value in told.items() if isinstance(value, str) and value}

    @property
    def judged(self) -> list[Judged]:
        """What is to be judged: a request as one, of a response every text by itself."""
        texts = [text for text in self.texts or () if text.strip()]
        calls = [_call(call) for call in self.tool_calls or ()]
        images = tuple(self.images or ())
        if self.input_type == "response":
            answers = [Judged(text, instruction=ANSWER) for text in texts]
            if calls or images:
                answers.append(Judged("\n".join(calls), images, ANSWER))
            return answers
        turns = [part for message in self.structured_messages or () for part in _parts(message)]
        known = {part.text for part in turns}
        rest = [text for text in (*texts, *calls) if text not in known]
        if not turns:
            return [Judged("\n\n".join(rest), images)] if rest or images else []
        tools = [Part("tools", orjson.dumps(tool).decode()) for tool in self.tools or ()]
        return [_conversation([*tools, *(Part("user", text) for text in rest), *turns], images)]


def _conversation(parts: list[Part], images: tuple[str, ...]) -> Judged:
    mark = mark_of("\0".join(part.text for part in parts))
    text = "\n".join(f"----- {mark} {part.speaker} -----\n{part.text}" for part in parts)
    return Judged(text, images, CONVERSATION, tuple(part.text for part in reversed(parts)))


def _parts(message: Mapping[str, Any]) -> Iterator[Part]:
    """The texts of a message and the calls it makes; its thinking is nobody's words."""
    speaker = "".join(letter for letter in str(message.get("role")) if letter.isalpha())[:16]
    content = message.get("content")
    pieces = content if isinstance(content, list) else [{"text": content}]
    for piece in pieces:
        text = piece.get("text") or piece.get("refusal") if isinstance(piece, dict) else piece
        if isinstance(text, str) and text.strip():
            yield Part(speaker, text)
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        yield Part(speaker, _call(call))


def _call(call: Any) -> str:
    """A tool call on one line."""
    function = call.get("function") if isinstance(call, dict) else None
    if isinstance(function, dict):
        return f"calls {function.get('name')}: {function.get('arguments')}"
    return f"calls {orjson.dumps(call).decode()}"
