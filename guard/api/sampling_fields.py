"""The request fields that chat completions, completions and responses have in common.

How tokens are drawn goes to the engine as it is, and so do the few fields of engines that OpenAI does
not have. Who asks, and what for, is noted in the record.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from typing_extensions import TypedDict

from guard.api.refused_fields import SILENCES


def _stays_on(value: Any) -> Any:
    if value is not True:
        raise ValueError(SILENCES)
    return value


TemplateDate = Annotated[str, Field(pattern=r"^(?:\d{4}-\d{2}-\d{2}|\d{1,2} [A-Z][a-z]{2,8} \d{4})$")]
"""A date and no other words: a template writes it into the system prompt."""
ThinkingOn = Annotated[Literal[True], BeforeValidator(_stays_on)]
Label = Annotated[str, Field(max_length=512)]
Metadata = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64)], Label],
    Field(max_length=16),
]


class TemplateOptions(TypedDict, total=False):
    """Options of a chat template that change nothing about the thinking or the policy's place.

    Only known ones: every template has names of its own for switching the thinking off, and for texts
    that would stand in the prompt unseen. Switches that leave it on are accepted and not needed.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    date_string: TemplateDate
    add_vision_id: bool
    tools_in_user_message: bool
    enable_thinking: ThinkingOn
    thinking: ThinkingOn


_SWITCHES = frozenset({"enable_thinking", "thinking"})


class SamplingFields(BaseModel):
    """How an answer is drawn, and for whom."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    model: Annotated[str, Field(min_length=1, max_length=256)]
    """``default``, or the engine's own name of its model; ``default@NAME`` of several policies."""
    stream: bool | None = None
    """Whether the answer comes as server-sent events."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """How evenly tokens are drawn."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Draws among the likeliest tokens of this share."""
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    """Against tokens that have come before."""
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    """Against tokens by how often they have come before."""
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    """Draws among so many of the likeliest tokens."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Draws among tokens of at least this share of the likeliest."""
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    """Against tokens of the prompt and of the answer."""
    cache_salt: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Keeps this request's prefix cache apart; the policy is then computed anew for it as well."""
    priority: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """Only to stand back: with a number below 0 one client would go before all others."""
    chat_template_kwargs: TemplateOptions | None = None
    """Of these, ``date_string`` (a date), ``add_vision_id`` and ``tools_in_user_message``; a switch of the
    thinking only where it leaves it on."""
    user: Label | None = None
    """Stands in the record as well."""
    safety_identifier: Label | None = None
    """Stands in the record."""
    prompt_cache_key: Label | None = None
    """Stands in the record; the engine caches prefixes by itself."""
    metadata: Metadata | None = None
    """Stands in the record."""

    @property
    def sampling(self) -> dict[str, Any]:
        """What goes to the engine as it is; None where the client does not say."""
        given = vars(self)
        fields = {name: given[name] for name in FORWARDED}
        if self.chat_template_kwargs is not None:
            options = {k: v for k, v in self.chat_template_kwargs.items() if k not in _SWITCHES}
            fields["chat_template_kwargs"] = options or None
        return fields

    @property
    def labels(self) -> dict[str, Any]:
        """What goes into the record as it is; the client's own words about the request."""
        given = vars(self)
        return {name: value for name in LABELS if (value := given[name])}


class StreamOptions(BaseModel):
    """Options of a stream."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False
    include_obfuscation: bool = False


class ChoiceFields(SamplingFields):
    """How many answers are drawn, and where each ends; what the newer endpoint left out."""

    stream_options: StreamOptions | None = None
    """``include_usage``; the usage comes once, before ``[DONE]``."""
    n: Annotated[int, Field(ge=1)] | None = None
    """Each choice is an engine call of its own, deliberated and recorded by itself."""
    stop: str | Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=16)] | None = None
    """Cuts the visible answer; the engine never sees it."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    """Of the first choice; each further one gets the next number."""

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> ChoiceFields:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: only allowed with stream: true")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop sequences."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


FORWARDED = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "top_k",
    "min_p",
    "repetition_penalty",
    "cache_salt",
    "priority",
    "chat_template_kwargs",
    "user",
)
LABELS = ("user", "safety_identifier", "prompt_cache_key", "metadata")
