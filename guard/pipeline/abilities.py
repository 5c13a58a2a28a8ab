"""What an engine cannot do of a request: left out where the answer is still an answer, else refused."""

from __future__ import annotations

from guard.errors import InvalidRequest
from guard.pipeline.exchange import Constrained, EngineProfile, Exchange

DISPENSABLE = frozenset(
    {
        "temperature",
        "top_p",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "top_k",
        "min_p",
        "repetition_penalty",
        "reasoning_effort",
        "parallel_tool_calls",
    }
)
"""Fields that change which of many good answers comes. Without them it is still one, and refusing them
would break most applications; answers say in a header that they were left out."""

EXTRAS = frozenset({"top_k", "min_p", "repetition_penalty", "cache_salt", "priority", "chat_template_kwargs"})
"""Fields of engines that OpenAI's API does not have."""


def check_able(exchange: Exchange, profile: EngineProfile) -> None:
    """Go on only where the engine can do what the request asks.

    Raises:
        InvalidRequest: It cannot; the field is named.
    """
    if exchange.constraint and profile.constrained is Constrained.UNSUPPORTED:
        field = next(iter(exchange.constraint))
        raise _unable(f"cannot enforce {field}; use one with structured outputs, such as vLLM", field)
    for field in (*exchange.sampling, *exchange.probabilities):
        if field in profile.lacks and field not in DISPENSABLE:
            raise _unable(f"does not take {field}", field)


def not_applied(exchange: Exchange, profile: EngineProfile) -> tuple[str, ...]:
    """The request's fields that are left out of the engine's calls, sorted."""
    seed = ("seed",) if exchange.seed is not None else ()
    return tuple(sorted(profile.lacks.intersection((*exchange.sampling, *seed))))


def _unable(what: str, field: str) -> InvalidRequest:
    return InvalidRequest(f"This engine {what}.", param=field, code="unsupported_parameter")
