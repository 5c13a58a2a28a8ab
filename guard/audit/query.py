"""Finding records: by what they cite, how they ended, when, and whose they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Select, select

from guard.audit.codec import record_of_row
from guard.audit.record import Outcome, Record
from guard.audit.schema import citations, findings, records
from guard.audit.store import AuditStore
from guard.deliberation.citations import CitationStatus
from guard.deliberation.deliberation import Finding
from guard.errors import AuditError
from guard.policy.model import Ruling

_SPAN = re.compile(r"(?P<count>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
AMBIGUOUS_SHOWN = 5
"""Ids named where a beginning fits several records."""


class NotOne(AuditError):
    """No record has the id that was asked for, or several begin with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which records; what is left out does not matter."""

    limit: int = 20
    clause: str | None = None
    """Cited, by id."""
    citation_status: CitationStatus | None = None
    """With ``clause``, of that citation; alone, of any."""
    finding: Finding | None = None
    verdict: Ruling | None = None
    outcome: Outcome | None = None
    request_id: str | None = None
    tenant: str | None = None
    policy: str | None = None
    """Name of a policy, or the beginning of a digest."""
    since: datetime | None = None
    """Begun at this time or later."""
    until: datetime | None = None
    """Begun before this time."""
    before: str | None = None
    """Id of the last record of the page before."""


async def find(store: AuditStore, wanted: Filter) -> list[Record]:
    """The newest records that fit, newest first."""
    return await store.read(lambda connection: _find(connection, wanted))


async def get(store: AuditStore, id: str) -> Record:
    """The one record whose id or request id is, or else begins with, this.

    Raises:
        NotOne: None does, or several do.
        AuditError: The database cannot be read.
    """
    found = await store.read(lambda connection: _named(connection, id))
    if not found:
        raise NotOne(f"no record is, or begins with, {id!r}")
    if len(found) > 1:
        names = ", ".join(found[:AMBIGUOUS_SHOWN]) + (", …" if len(found) > AMBIGUOUS_SHOWN else "")
        raise NotOne(f"{id!r} is the beginning of several records: {names}")
    return (await store.read(lambda connection: _load(connection, found)))[0]


def parse_time(text: str, now: datetime) -> datetime:
    """A time as people write it: ``2h`` or ``3d`` ago, a date, a date with a time.

    A date is its beginning; without an offset it is UTC.

    Args:
        text: What was written.
        now: What ``ago`` is counted from; aware.

    Raises:
        ValueError: It is none of these; says what would be.

    >>> parse_time("2h", datetime(2026, 3, 1, 12, tzinfo=UTC)).isoformat()
    '2026-03-01T10:00:00+00:00'
    """
    written = text.strip()
    if span := _SPAN.fullmatch(written.lower()):
        try:
            return now - timedelta(**{_UNITS[span["unit"]]: float(span["count"])})
        except OverflowError as error:
            raise ValueError(f"{text!r} is longer ago than the calendar goes back") from error
    try:
        time = datetime.fromisoformat(written)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no time: write 30m, 2h, 3d or 1w (ago), or 2026-03-01, or 2026-03-01T14:30"
        ) from error
    if time.tzinfo is None:
        return time.replace(tzinfo=UTC)
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} is outside the calendar") from error


def _find(connection: Connection, wanted: Filter) -> list[Record]:
    newest = (records.c.started_at.desc(), records.c.id.desc())
    query = select(records.c.id).where(*_conditions(connection, wanted)).order_by(*newest)
    ids = connection.execute(query.limit(wanted.limit)).scalars().all()
    # In a second query, so that the database does not sort whole texts.
    return _load(connection, ids)


def _load(connection: Connection, ids: Sequence[str]) -> list[Record]:
    found: dict[str, Record] = {}
    for start in range(0, len(ids), 500):
        query = select(records).where(records.c.id.in_(ids[start : start + 500]))
        found |= {row.id: record_of_row(row._asdict()) for row in connection.execute(query)}
    return [found[record_id] for record_id in ids]


def _conditions(connection: Connection, wanted: Filter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    equal = {
        records.c.verdict: wanted.verdict,
        records.c.outcome: wanted.outcome,
        records.c.tenant: wanted.tenant,
    }
    conditions += [column == str(value) for column, value in equal.items() if value is not None]
    if wanted.request_id is not None:
        conditions += _of_request(wanted.request_id)
    if wanted.policy is not None:
        name = records.c.policy == wanted.policy
        conditions.append(name | records.c.policy_digest.startswith(wanted.policy, autoescape=True))
    if wanted.since is not None:
        conditions.append(records.c.started_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(records.c.started_at < wanted.until)
    if wanted.before is not None:
        last = select(records.c.started_at).where(records.c.id == wanted.before).scalar_subquery()
        same = (records.c.started_at == last) & (records.c.id < wanted.before)
        conditions.append((records.c.started_at < last) | same)
    if wanted.clause is not None or wanted.citation_status is not None:
        conditions.append(records.c.id.in_(_citing(wanted)))
    if wanted.finding is not None:
        found = select(findings.c.record_id).where(findings.c.finding == str(wanted.finding))
        conditions.append(records.c.id.in_(found))
    return conditions


def _citing(wanted: Filter) -> Select[tuple[str]]:
    query = select(citations.c.record_id)
    if wanted.clause is not None:
        query = query.where(citations.c.clause == wanted.clause.upper())
    if wanted.citation_status is not None:
        query = query.where(citations.c.status == str(wanted.citation_status))
    return query


def _named(connection: Connection, name: str) -> Sequence[str]:
    for fits in ([records.c.id == name], _of_request(name), _prefix(name)):
        query = select(records.c.id).where(*fits).order_by(records.c.id).limit(AMBIGUOUS_SHOWN + 1)
        if found := connection.execute(query).scalars().all():
            return found
    return ()


def _of_request(request_id: str) -> list[ColumnElement[bool]]:
    """Ids begin with the request id, so the primary key finds them."""
    return [*_prefix(f"{request_id}-"), records.c.request_id == request_id]


def _prefix(beginning: str) -> list[ColumnElement[bool]]:
    """Ids that begin like this, as a range that the primary key answers on both databases."""
    return [records.c.id >= beginning, records.c.id < beginning + "\U0010ffff"]
