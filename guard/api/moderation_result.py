"""The field ``moderation`` of answers: what was decided about request and answer.

OpenAI's shape, filled with what the guard knows anyway. ``input`` is the decision about the request, as
``/v1/moderations`` tells it. ``output`` is whether the answer does what was decided; no second thinking
judges it. Mode ``score`` tells, mode ``block`` (on either side) enforces: what is against the policy is
not released, also where the guard is configured to observe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from guard.api.answer import Gathered
from guard.api.moderation_field import Moderation
from guard.api.moderations import DEFAULT_MODEL, is_flagged, moderation
from guard.api.moderations_request import OPENAI_MODELS
from guard.deliberation.style import agrees, answer_style
from guard.errors import NotFound
from guard.pipeline.events import Decided
from guard.pipeline.exchange import Prepared
from guard.policy.model import Ruling


def judging_model(asked: Moderation | None, offered: Sequence[str]) -> str:
    """The name of the model that judges; empty where no moderation is asked for.

    Raises:
        NotFound: There is no such model.
    """
    if asked is None:
        return ""
    name = DEFAULT_MODEL if asked["model"] in OPENAI_MODELS else asked["model"]
    if name not in offered:
        raise NotFound(
            f"The model {name!r} does not exist. Available: {', '.join(offered)}.",
            param="moderation.model",
            code="model_not_found",
        )
    return name


def chat_moderation(prepared: Prepared, choices: Sequence[Gathered], model: str) -> dict[str, Any]:
    """The field of a response, with one result for each choice on both sides.

    Args:
        prepared: The exchange.
        choices: Its choices, complete.
        model: The name of the model that judged.
    """
    told = [response_moderation(prepared, choice, model) for choice in choices]
    return {
        side: {"type": "moderation_results", "model": model, "results": [result[side] for result in told]}
        for side in ("input", "output")
    }


def response_moderation(prepared: Prepared, choice: Gathered, model: str) -> dict[str, Any]:
    """The same for the one choice of ``/v1/responses``, where each side is its result.

    Args:
        prepared: The exchange.
        choice: Complete.
        model: The name of the model that judged.
    """
    assert choice.decided is not None
    policy, read, flagged = prepared.snapshot.policy, choice.decided.deliberation, is_flagged(choice.decided)
    against = flagged and not does_as_decided(choice, choice.decided)
    head = {"type": "moderation_result", "model": model}
    return {
        "input": head | moderation(read, policy, _kinds(prepared), flagged=flagged),
        "output": head | moderation(read, policy, ["text"], flagged=against),
    }


def does_as_decided(choice: Gathered, decided: Decided) -> bool:
    """Whether what was released of a choice can stand beside its decision."""
    verdict = decided.deliberation.verdict
    if decided.refused:
        return True
    if verdict is None:
        return False
    if choice.tools:
        return verdict is not Ruling.REFUSE
    return agrees(verdict, answer_style("".join(choice.answer))) is not False


def _kinds(prepared: Prepared) -> list[str]:
    """Which kinds of input the conversation has."""
    contents = [message.get("content") for message in prepared.exchange.messages]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return ["text", "image"] if any(part["type"] == "image_url" for part in parts) else ["text"]
