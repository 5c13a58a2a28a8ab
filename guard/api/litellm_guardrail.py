"""``POST /beta/litellm_basic_guardrail_api``: the guard as the guardrail of a LiteLLM proxy.

LiteLLM calls it before a request goes to its model (``pre_call``, ``during_call``) and with what came back
(``post_call``). Judged as by ``/v1/moderations``: by a deliberation that is stopped where its thinking ends,
which leaves a record. What the policy refuses is blocked, with the policy's own words as the reason, and
so is what could not be judged. What it would answer with care passes: an answer is judged again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from guard.api.admission import open_request
from guard.api.answer import Gathered, WholeAnswer
from guard.api.litellm_guardrail_request import GuardrailRequest
from guard.api.moderations import judgements
from guard.pipeline.events import Decided
from guard.pipeline.exchange import Prepared
from guard.policy.model import Ruling


async def litellm_guardrail(request: Request) -> WholeAnswer | Response:
    """Judge what LiteLLM is about to send or to release."""
    opened = await open_request(request, GuardrailRequest)
    judged = opened.asked.judged
    if not judged:
        return JSONResponse({"action": "NONE"})
    prepared = await judgements("litellm_guardrail", opened, judged, labels=opened.asked.labels)
    return WholeAnswer(
        opened.service.pipeline,
        prepared[0],
        lambda choices: orjson.dumps(_answer(prepared, choices)),
        further=prepared[1:],
        at_once=opened.service.limits.choices,
    )


def _answer(prepared: Sequence[Prepared], choices: Sequence[Gathered]) -> dict[str, Any]:
    for judged, choice in zip(prepared, choices, strict=True):
        if choice.decided is None or is_blocked(choice.decided):
            return {"action": "BLOCKED", "blocked_reason": _reason(judged, choice.decided)}
    return {"action": "NONE"}


def is_blocked(decided: Decided) -> bool:
    """Whether something may not pass; what could not be judged was not found harmless."""
    return decided.refused or decided.deliberation.verdict in (Ruling.REFUSE, None)


def _reason(judged: Prepared, decided: Decided | None) -> str:
    """The policy's refusal for what was cited, else for what was found; it reaches LiteLLM's client."""
    citations = decided.deliberation.citations if decided else ()
    cited = tuple(citation.section for citation in citations if citation.section)
    return judged.snapshot.policy.refusal((*cited, *judged.matched))
