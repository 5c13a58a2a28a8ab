"""The rows that pass between stages: frozen, typed, identified by their content.

Prompt -> Completion (several a prompt) -> Judgement (one a completion) -> Example (filtered)
Item (of an evaluation set) -> Turn (what a model answered)
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from guard.policy.model import Ruling, digest

IDENTITY_CHARACTERS = 16

Split = Literal["train", "rl", "validation"]
"""What a prompt is for: every stage of training, RL alone, or measuring."""


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


class Instruction(Row):
    """A verifiable instruction of an IFEval prompt."""

    kind: str
    arguments: dict[str, Any] = {}


class Item(Row):
    """One evaluation prompt, with what its set knows about it."""

    set: str
    id: str
    prompt: str
    """The last user turn."""
    before: tuple[Message, ...] = ()
    """The turns before it, a system prompt included."""
    harmful: bool | None = None
    """Whether the set says it must be refused; None where it measures something else."""
    category: str = ""
    reference: str = ""
    """The reference answer of a capability row."""
    group: str = ""
    """Identity of the prompt that this is one form of, where a set asks each in several forms. They are
    drawn together and not counted as if they were independent."""
    plain: str = ""
    """The request before it was put into a form; empty where that is the prompt."""
    part: str = ""
    """The part of the set that it is counted in besides the whole."""
    response: Ruling | None = None
    """The type of response whose style the set asks for."""
    instructions: tuple[Instruction, ...] = ()

    @property
    def conversation(self) -> tuple[Message, ...]:
        """All turns, as a client sends them."""
        return (*self.before, *user(self.prompt))


class Turn(Item):
    """An evaluation prompt and what a model answered, thinking included."""

    text: str


def identity(value: object) -> str:
    """A short content digest."""
    return digest(value)[:IDENTITY_CHARACTERS]


def prompt_id(messages: tuple[Message, ...]) -> str:
    """The identity of a prompt: what is asked, not where it came from."""
    return identity([[m.role, m.content] for m in messages])


def user(text: str) -> tuple[Message, ...]:
    """A conversation of one user turn."""
    return (Message(role="user", content=text),)
