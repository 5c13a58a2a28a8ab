"""The audit store: records, and the policies they were judged by, in SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import orjson
from sqlalchemy import ColumnElement, Connection, delete, literal_column, or_, select, update

from guard.audit import migrate
from guard.audit.codec import policy_document, policy_of_document, record_row, storable
from guard.audit.connect import open_database
from guard.audit.database import Database, T, Unstorable
from guard.audit.instance import Instance
from guard.audit.record import Outcome, Record
from guard.audit.schema import citations, findings, policies, records
from guard.audit.statements import RecordUpsert, insert_into, stamp_of
from guard.errors import AuditError
from guard.policy.model import Policy

INTERRUPTED_ERROR = "the guard stopped before the stream ended"
PRUNE_BATCH = 500
"""Records deleted in one transaction, so that writers wait for tens of milliseconds at most."""


class AuditStore:
    """One open database; every failure is an ``AuditError``."""

    def __init__(self, database: Database, instance: Instance) -> None:
        """Use ``open`` instead."""
        self._database = database
        self._upsert = RecordUpsert()
        self._instance = instance
        self._upgraded = False

    @classmethod
    async def open(
        cls,
        database: str | Path,
        *,
        upgrade: bool = True,
        synchronous: str = "FULL",
        instance: Instance | None = None,
    ) -> Self:
        """Open the database at a path (SQLite) or a ``postgresql://`` URL, for writing.

        Args:
            database: Path or URL; what the URL leaves out, a password say, comes from libpq's variables.
            upgrade: Bring the schema up to date now; otherwise nothing is contacted, and the first of
                ``upgrade`` and ``prepare`` does it.
            synchronous: SQLite's level. FULL: what is written survives a power cut.
            instance: The process that writes, as its records will say.

        Raises:
            AuditError: The database cannot be used.
        """
        store = cls(open_database(database, synchronous=synchronous), instance or Instance.current())
        if upgrade:
            await store._or_close(store.upgrade)
        return store

    @classmethod
    async def open_for_reading(cls, database: str | Path) -> Self:
        """Open a database that must be there and have this guard's schema; it is not changed.

        Raises:
            AuditError: It is not there, or has another schema.
        """
        store = cls(open_database(database, create=False), Instance.current())
        await store._or_close(lambda: store.read(migrate.check))
        return store

    @property
    def location(self) -> str:
        """The path, or the URL without its secrets."""
        return self._database.location

    @property
    def database(self) -> Database:
        """For stores that keep other things in the same database."""
        return self._database

    async def upgrade(self) -> None:
        """Bring the schema up to date, once."""
        if not self._upgraded:
            await self._database.write(migrate.upgrade)
            self._upgraded = True

    async def prepare(self) -> int:
        """What a guard does before its first record: upgrade, and ``mark_interrupted``."""
        await self.upgrade()
        return await self.mark_interrupted()

    async def write(self, batch: Sequence[Record]) -> None:
        """Write records in one transaction: all of them, or none.

        A record may be there already. The final version of a stream replaces its first, and one that
        knows less than what is there changes nothing.

        Raises:
            AuditError: Nothing was written; ``Unstorable`` where that lies in a record.
        """
        if not batch:
            return
        try:
            await self._write(batch)
        except (AuditError, orjson.JSONEncodeError):
            # A connection that died in the pool, or text that no database takes.
            await self._write([storable(record) for record in batch])

    async def _write(self, batch: Sequence[Record]) -> None:
        instance = str(self._instance)

        def write(connection: Connection) -> None:
            stamp = stamp_of(connection.dialect)
            self._upsert.run(connection, [record_row(record, instance, stamp) for record in batch])

        await self._database.write_statement(write)

    async def write_each(self, batch: Sequence[Record]) -> list[Record]:
        """Write records one by one; those that the database will never take.

        Raises:
            AuditError: It failed for another reason; some may be written.
        """
        unstorable = []
        for record in batch:
            try:
                await self.write([record])
            except Unstorable:
                unstorable.append(record)
        return unstorable

    async def check(self) -> None:
        """See that the database answers.

        Raises:
            AuditError: It does not.
        """
        await self.read(lambda c: c.execute(select(1)).scalar())

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run a query."""
        return await self._database.read(work)

    async def save_policy(self, policy: Policy) -> None:
        """Keep a policy as it is now; a digest that is known keeps its first ``activated_at``."""
        values = {
            "digest": policy.digest,
            "name": policy.name,
            "version": policy.version,
            "activated_at": datetime.now(UTC),
            "document": policy_document(policy),
        }

        def save(connection: Connection) -> None:
            insert = insert_into(policies, connection.dialect).values(values)
            connection.execute(insert.on_conflict_do_nothing())

        await self._database.write(save)

    async def policies(self, name: str) -> list[Policy]:
        """Every kept version of a policy, the latest first."""
        query = select(policies.c.document).where(policies.c.name == name)
        query = query.order_by(policies.c.activated_at.desc(), policies.c.digest)
        documents = await self.read(lambda c: c.execute(query).scalars().all())
        return [policy_of_document(document) for document in documents]

    async def policy(self, digest: str) -> Policy | None:
        """The policy with this digest; None where it was never kept."""
        query = select(policies.c.document).where(policies.c.digest == digest)
        document = await self.read(lambda c: c.execute(query).scalar())
        return policy_of_document(document) if document else None

    async def mark_interrupted(self, before: datetime | None = None) -> int:
        """Mark the streams that a dead process of this host left unfinished; their number.

        Streams of other hosts are theirs to mark. A stream marked by mistake (two hosts of one name) is
        set right by its final version.

        Args:
            before: Also mark every stream that began before this time, whoever served it; for hosts
                that never come back (``interruption.py``).
        """
        # As a literal: SQLite uses a partial index only where the statement itself implies its condition.
        streaming = records.c.outcome == literal_column(f"'{Outcome.STREAMING}'")

        def mark(connection: Connection) -> int:
            names = connection.execute(select(records.c.instance).where(streaming).distinct())
            dead = [name for name in names.scalars() if self._is_dead(name)]
            left: list[ColumnElement[bool]] = [records.c.instance.in_(dead)]
            if before is not None:
                left.append(records.c.started_at < before)
            values = {"outcome": str(Outcome.INTERRUPTED), "error": INTERRUPTED_ERROR}
            return connection.execute(update(records).where(streaming, or_(*left)).values(values)).rowcount

        return await self._database.write(mark)

    async def prune(self, older_than: datetime, batch: int = PRUNE_BATCH) -> int:
        """Delete records that began before a time, a batch a transaction; their number.

        Only ids are read. SQLite keeps the freed space for new records.
        """

        def prune_some(connection: Connection) -> int:
            query = select(records.c.id).where(records.c.started_at < older_than)
            ids = connection.execute(query.order_by(records.c.started_at).limit(batch)).scalars().all()
            if ids:
                for key in (citations.c.record_id, findings.c.record_id, records.c.id):
                    connection.execute(delete(key.table).where(key.in_(ids)))
            return len(ids)

        pruned = 0
        while deleted := await self._database.write(prune_some):
            pruned += deleted
        return pruned

    async def close(self) -> None:
        """Finish running work and close all connections."""
        await self._database.close()

    def _is_dead(self, name: str) -> bool:
        other = Instance.parse(name)
        return other is not None and self._instance.outlived(other)

    async def _or_close(self, step: Callable[[], object]) -> None:
        try:
            await step()  # type: ignore[misc]
        except AuditError:
            await self.close()
            raise
