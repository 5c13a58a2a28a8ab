"""The field ``moderation`` of chat completions: what was decided about request and answer.

OpenAI's shape, filled with what the guard knows anyway. ``input`` is the decision about the request, as
``/v1/moderations`` tells it. ``output`` is whether the answer does what was decided; no second thinking
judges it. Mode ``score`` tells, mode ``block`` (on either side) enforces: what is against the policy is
not released, also where the guard is configured to observe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from guard.api.answer import Gathered
from guard.api.moderation_field import ChatModeration
from guard.api.moderations import DEFAULT_MODEL, is_flagged, moderation
from guard.api.moderations_request import OPENAI_MODELS
from guard.deliberation.style import agrees, answer_style
from guard.errors import NotFound
from guard.pipeline.events import Decided
from guard.pipeline.exchange import Prepared
from guard.policy.model import Ruling


def judging_model(asked: ChatModeration | None, offered: Sequence[str]) -> str:
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
    policy, kinds = prepared.snapshot.policy, _kinds(prepared)
    inputs, outputs = [], []
    for choice in choices:
        assert choice.decided is not None
        read, flagged = choice.decided.deliberation, is_flagged(choice.decided)
        inputs.append(moderation(read, policy, kinds, flagged=flagged))
        against = flagged and not does_as_decided(choice, choice.decided)
        outputs.append(moderation(read, policy, ["text"], flagged=against))
    return {"input": _results(inputs, model), "output": _results(outputs, model)}


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


def _results(results: list[dict[str, Any]], model: str) -> dict[str, Any]:
    typed = [{"type": "moderation_result", "model": model, **result} for result in results]
    return {"type": "moderation_results", "model": model, "results": typed}
