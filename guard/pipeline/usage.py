"""Token counts of a choice, and of an exchange."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Usage(NamedTuple):
    """Tokens as the engine counts them; the prompt includes the policy."""

    prompt: int = 0
    completion: int = 0
    """Thinking and answer, over all attempts."""
    reasoning: int = 0
    """The part of ``completion`` that was thinking; 0 where the engine does not say."""
    cached: int = 0
    """The part of ``prompt`` that the engine had cached; 0 where it does not say."""

    def body(self) -> dict[str, object]:
        """OpenAI's ``usage`` object."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }


def total(usages: Iterable[Usage]) -> Usage:
    """Usage of all choices of one request: the prompt counts once, completions add up."""
    usages = tuple(usages)
    if len(usages) == 1:
        return usages[0]
    return Usage(
        prompt=max((u.prompt for u in usages), default=0),
        completion=sum(u.completion for u in usages),
        reasoning=sum(u.reasoning for u in usages),
        cached=max((u.cached for u in usages), default=0),
    )
