"""Writing a batch of records in one transaction.

A record may be written several times: a stream's first version is replaced by its final one, and a
record that went to the spill file is replayed when it may be in the database already. A version that
knows more always wins: ``streaming``, then ``interrupted``, then any other outcome.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, delete, select

from guard.audit.codec import citation_rows, finding_rows, record_row
from guard.audit.record import Outcome, Record
from guard.audit.schema import citations, findings, records
from guard.audit.statements import Statements, stamp_of

_KNOWS_LITTLE = {Outcome.STREAMING: 0, Outcome.INTERRUPTED: 1}
_KNOWS_ALL = 2


def write_batch(
    connection: Connection, statements: Statements, batch: Iterable[Record], instance: str
) -> None:
    """Write records, each for the first time, but for the final versions of streams.

    Args:
        connection: In a transaction.
        statements: The store's.
        batch: Records; of several versions of one, the last counts.
        instance: The guard process that writes them.
    """
    latest = list({record.id: record for record in batch}.values())
    fresh = [record for record in latest if not record.stream or record.outcome is Outcome.STREAMING]
    replacing = [record for record in latest if record.stream and record.outcome is not Outcome.STREAMING]
    _write(connection, statements, fresh, replacing, instance)


def rewrite_batch(
    connection: Connection, statements: Statements, batch: Iterable[Record], instance: str
) -> None:
    """Write records, some version of which may be there; one that knows less than that is left out."""
    latest: dict[str, Record] = {}
    for record in batch:
        known = latest.get(record.id)
        if known is None or _rank(record.outcome) >= _rank(known.outcome):
            latest[record.id] = record
    stored = connection.execute(select(records.c.id, records.c.outcome).where(records.c.id.in_(list(latest))))
    for record_id, outcome in stored.all():
        if _rank(latest[record_id].outcome) < _rank(Outcome(outcome)):
            del latest[record_id]
    _write(connection, statements, (), list(latest.values()), instance)


def _write(
    connection: Connection,
    statements: Statements,
    fresh: Sequence[Record],
    replacing: Sequence[Record],
    instance: str,
) -> None:
    stamp = stamp_of(connection.dialect)
    statements.insert(connection, records, [record_row(record, instance, stamp) for record in fresh])
    if replacing:
        rows = [record_row(record, instance, stamp) for record in replacing]
        statements.upsert(connection, records, rows)
        ids = [record.id for record in replacing]
        connection.execute(delete(citations).where(citations.c.record_id.in_(ids)))
        connection.execute(delete(findings).where(findings.c.record_id.in_(ids)))
    everything = (*fresh, *replacing)
    statements.insert(connection, citations, [row for record in everything for row in citation_rows(record)])
    statements.insert(connection, findings, [row for record in everything for row in finding_rows(record)])


def _rank(outcome: Outcome) -> int:
    return _KNOWS_LITTLE.get(outcome, _KNOWS_ALL)
