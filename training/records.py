"""The rows that pass between stages: frozen, typed, identified by their content.

Prompt -> Completion (several a prompt) -> Judgement (one a completion) -> Example (filtered)
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from guard.policy.model import Ruling, digest

IDENTITY_CHARACTERS = 16

Split = Literal["train", "validation"]


class Row(BaseModel):
    """Base of every row: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Row):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Annotated[str, Field(min_length=1)]


class Prompt(Row):
    """A conversation that ends on the user's turn, with what is known about it."""

    id: str
    messages: tuple[Message, ...]
    source: str
    """Where it came from: ``pairs``, ``policy``, ``ordinary``, or an import's name."""
    section: str | None = None
    """The policy section it belongs to; None for ordinary prompts."""
    clause: str | None = None
    ruling: Ruling | None = None
    pair: str | None = None
    """Both rows of a pair share it, and are never split between training and validation."""
    phrasing: str = ""
    decisive: str = ""
    """The words in which it differs from the other side of its pair; empty where there is none."""
    variant: str = "plain"
    plain: str = ""
    """The text before it was varied; empty where ``variant`` is ``plain``."""
    split: Split = "train"
    noisy: bool = False
    """The ruling is an imported label: an opinion for the judge, not a fact."""

    @property
    def text(self) -> str:
        """The last user turn."""
        return self.messages[-1].content


class Completion(Row):
    """One sampled deliberation and answer."""

    prompt: str
    sample: int
    model: str
    thinking: str
    answer: str
    closed: bool
    """The thinking was closed and the answer not cut off."""
    thinking_only: bool = False
    """The answer is left to the student, which learns the thinking of this row alone."""


class Judgement(Row):
    """What the judge made of one completion: k runs, or why there is no score."""

    prompt: str
    sample: int
    scores: tuple[float, ...]
    """One score in 0..1 a readable run."""
    unscored: tuple[str, ...]
    """One reason an unreadable run."""

    @property
    def score(self) -> float | None:
        """The minimum of the runs; None where no run could be read."""
        return min(self.scores) if self.scores else None


class Example(Row):
    """A row to train on: the conversation as the client sends it, the thinking, the answer."""

    id: str
    messages: tuple[Message, ...]
    thinking: str
    answer: str
    """Empty where the row teaches the thinking alone."""
    source: str
    section: str | None = None
    clause: str | None = None
    ruling: Ruling | None = None
    pair: str | None = None
    variant: str = "plain"
    split: Split = "train"
    score: float | None = None


def identity(value: object) -> str:
    """A short content digest."""
    return digest(value)[:IDENTITY_CHARACTERS]


def prompt_id(messages: tuple[Message, ...]) -> str:
    """The identity of a prompt: what is asked, not where it came from."""
    return identity([[m.role, m.content] for m in messages])


def user(text: str) -> tuple[Message, ...]:
    """A conversation of one user turn."""
    return (Message(role="user", content=text),)
