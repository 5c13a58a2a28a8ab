"""The guard's own routes under ``/guard/v1``: records for auditors, policies for administrators."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from guard.api.body import validate
from guard.api.state import caller_of, service_of
from guard.audit.query import Filter, NotOne, find, get, parse_time
from guard.audit.record import Outcome
from guard.audit.render import to_json
from guard.deliberation.citations import CitationStatus
from guard.deliberation.deliberation import Finding
from guard.errors import NotFound
from guard.keys import Scope
from guard.policy.model import Ruling
from guard.rollout.active import ActivePolicy


class RecordQuery(BaseModel):
    """Query parameters of the record list; each narrows it."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    clause: str | None = None
    citation: CitationStatus | None = None
    verdict: Ruling | None = None
    finding: Finding | None = None
    outcome: Outcome | None = None
    tenant: str | None = None
    policy: str | None = None
    request: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: str | None = None

    @field_validator("since", "until", mode="before")
    @classmethod
    def _time(cls, text: str) -> datetime:
        return parse_time(text, datetime.now(UTC))

    def filter(self) -> Filter:
        """The audit's form."""
        return Filter(
            limit=self.limit,
            clause=self.clause,
            citation_status=self.citation,
            verdict=self.verdict,
            finding=self.finding,
            outcome=self.outcome,
            tenant=self.tenant,
            policy=self.policy,
            request_id=self.request,
            since=self.since,
            until=self.until,
            before=self.before,
        )


async def list_records(request: Request) -> Response:
    """Records, newest first; ``before`` with the last id gives the next page."""
    service = service_of(request)
    caller_of(request).require(Scope.AUDIT)
    query = validate(RecordQuery, dict(request.query_params))
    found = await find(service.records, query.filter())
    return _json({"object": "list", "data": [to_json(record) for record in found]})


async def get_record(request: Request) -> Response:
    """One record by id, request id or the unique beginning of one."""
    service = service_of(request)
    caller_of(request).require(Scope.AUDIT)
    try:
        record = await get(service.records, request.path_params["id"])
    except NotOne as error:
        raise NotFound(f"{error}.", param="id", code="record_not_found") from error
    return _json(to_json(record))


async def list_policies(request: Request) -> Response:
    """The policies in force."""
    service = service_of(request)
    caller_of(request).require(Scope.ADMIN)
    return _json({"object": "list", "data": [_policy(active) for active in service.policies.values()]})


async def reload_policy(request: Request) -> Response:
    """Read a policy's folder again now; 422 with every problem where it cannot be used."""
    service = service_of(request)
    caller_of(request).require(Scope.ADMIN)
    name = request.path_params["name"]
    if name not in service.policies:
        raise NotFound(
            f"There is no policy {name!r}. Available: {', '.join(service.policies)}.",
            param="name",
            code="policy_not_found",
        )
    active = service.policies[name]
    result = await active.reload()
    body = {**_policy(active), "changed": result.changed, "seconds": round(result.seconds, 4)}
    return JSONResponse(body, 422 if result.problems else 200)


def _policy(active: ActivePolicy) -> dict[str, Any]:
    policy = active.snapshot.policy
    return {
        "name": policy.name,
        "version": policy.version,
        "digest": policy.digest,
        "sections": len(policy.sections),
        "clauses": len(policy.clauses),
        "rejected_edit": list(active.problems),
    }


def _json(value: object) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
