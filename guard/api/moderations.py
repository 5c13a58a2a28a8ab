"""``POST /v1/moderations``: how the policy in force rules on a text, found by deliberation.

The answer has OpenAI's shape. Its categories are clauses of the policy, named ``section/clause``: those
that the thinking cited and that are really there. A score is 1.0 or 0.0, since a decision was taken
and no probability measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import orjson
from starlette.requests import Request

from guard.api.admission import FieldNames, Opened, new_exchange, open_request
from guard.api.answer import Gathered, WholeAnswer
from guard.api.moderations_request import OPENAI_MODELS, Judged, ModerationRequest
from guard.deliberation.citations import CitationStatus
from guard.deliberation.deliberation import Deliberation
from guard.pipeline.events import Decided
from guard.pipeline.exchange import Prepared
from guard.policy.model import Policy, Ruling

DEFAULT_MODEL = "default"


async def moderations(request: Request) -> WholeAnswer:
    """Judge each input."""
    opened = await open_request(request, ModerationRequest)
    service = opened.service
    judged, model = opened.asked.judged, opened.asked.model or DEFAULT_MODEL
    if model in OPENAI_MODELS:
        model = DEFAULT_MODEL
    service.check_model(model)
    prepared, *further = await judgements("moderations", opened, judged, model)
    return WholeAnswer(
        service.pipeline,
        prepared,
        lambda choices: _body(prepared, judged, choices),
        further=further,
        at_once=service.limits.choices,
    )


async def judgements(
    endpoint: str,
    opened: Opened[Any],
    judged: Sequence[Judged],
    model: str = DEFAULT_MODEL,
    labels: Mapping[str, Any] = MappingProxyType({}),
) -> list[Prepared]:
    """What is to be deliberated: one exchange for each input, all under one request id.

    Args:
        endpoint: Its name in records.
        opened: The request that the inputs came in.
        judged: The inputs.
        model: The name of the model that judges, as the client has it.
        labels: The client's own words about the request, for the records.
    """
    exchange = new_exchange(
        endpoint,
        opened.caller,
        opened.service.limits,
        FieldNames(),
        model=model,
        stream=False,
        messages=[],
        sampling={},
        labels=labels,
    )
    exchanges = [
        exchange._replace(messages=[item.message()], searched=item.searched, decision_only=True)
        for item in judged
    ]
    prepare = opened.service.pipeline.prepare
    return await asyncio.gather(*[prepare(one, opened.snapshot) for one in exchanges])


def _body(prepared: Prepared, judged: list[Judged], choices: list[Gathered]) -> bytes:
    policy = prepared.snapshot.policy
    results = [
        moderation(choice.decided.deliberation, policy, item.kinds, flagged=is_flagged(choice.decided))
        for item, choice in zip(judged, choices, strict=True)
        if choice.decided is not None
    ]
    exchange = prepared.exchange
    return orjson.dumps({"id": f"modr-{exchange.request_id}", "model": exchange.model, "results": results})


def is_flagged(decided: Decided) -> bool:
    """Whether a text does not simply pass; one that could not be judged was not found harmless."""
    return decided.refused or decided.deliberation.verdict is not Ruling.COMPLY


def moderation(
    deliberation: Deliberation, policy: Policy, kinds: list[str], *, flagged: bool
) -> dict[str, Any]:
    """One result in OpenAI's shape.

    Args:
        deliberation: Its citations become the categories.
        policy: The policy of the request's snapshot.
        kinds: Which kinds of input it was taken on.
        flagged: Whether the text is; if not, no category holds.
    """
    categories = {
        f"{citation.section}/{citation.clause}": flagged
        and policy.clauses[citation.clause].ruling is not Ruling.COMPLY
        for citation in deliberation.citations
        if citation.status is CitationStatus.VERIFIED
    }
    return {
        "flagged": flagged,
        "categories": categories,
        "category_scores": {name: float(holds) for name, holds in categories.items()},
        "category_applied_input_types": dict.fromkeys(categories, kinds),
    }
