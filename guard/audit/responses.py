"""Responses that clients may come back to: by id, or as the conversation so far.

They are a convenience of the API and no evidence: the client decides whether they are kept and may delete
them, and the record of the same exchange stays as it is. Each belongs to a tenant; another tenant's is
as good as not there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import structlog
from sqlalchemy import Connection, Row, Select, delete, literal, select

from guard.audit.schema import responses
from guard.audit.store import PRUNE_BATCH, AuditStore
from guard.errors import AuditError

T = TypeVar("T")

DEADLINE = 2.0
"""Seconds the database may take; a request waits for it."""
PRUNE_SECONDS = 600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """One response and what it answered."""

    id: str
    tenant: str
    created_at: datetime
    previous_id: str | None
    """The response whose conversation it continues."""
    input: str
    """The items that this turn brought, JSON."""
    body: str
    """The response object as the client got it, JSON."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A response with those before it, oldest first."""

    turns: tuple[StoredResponse, ...]
    """Empty where the response is not there."""
    size: int
    """Characters in all of them."""

    @property
    def whole(self) -> bool:
        """Whether it goes back to its beginning; otherwise one is missing, or a limit was met."""
        return not self.turns or self.turns[0].previous_id is None


class ResponseStore:
    """The stored responses of one audit database; every failure is an ``AuditError``."""

    def __init__(self, store: AuditStore, deadline: float = DEADLINE) -> None:
        """Use an open audit store.

        Args:
            store: Its database holds the table once its schema is up to date.
            deadline: Seconds that one operation may take.
        """
        self._store = store
        self._deadline = deadline

    async def save(self, response: StoredResponse) -> None:
        """Keep a response; durable on return."""
        values = {
            "id": response.id,
            "tenant": response.tenant,
            "created_at": response.created_at,
            "previous_id": response.previous_id,
            "size": len(response.input) + len(response.body),
            "input": response.input,
            "body": response.body,
        }

        def insert(connection: Connection) -> None:
            connection.execute(responses.insert().values(values))

        await self._timely(self._store.database.write_statement(insert))

    async def get(self, response_id: str, tenant: str) -> StoredResponse | None:
        """A tenant's response; None where there is none of that id."""
        query = _columns().where(responses.c.id == response_id, responses.c.tenant == tenant)
        row = await self._timely(self._store.read(lambda c: c.execute(query).one_or_none()))
        return _stored(row) if row is not None else None

    async def conversation(
        self, response_id: str, tenant: str, *, max_turns: int, max_size: int
    ) -> Conversation:
        """A tenant's response and what came before it.

        Args:
            response_id: The last turn.
            tenant: Whose it must be, like every turn before it.
            max_turns: Responses to read at most.
            max_size: Characters after which no more is read.
        """
        own = responses.c.tenant == tenant
        last = select(
            responses.c.id, responses.c.previous_id, literal(1).label("turn"), responses.c.size.label("total")
        ).where(responses.c.id == response_id, own)
        chain = last.cte("chain", recursive=True)
        chain = chain.union_all(
            select(
                responses.c.id,
                responses.c.previous_id,
                chain.c.turn + 1,
                chain.c.total + responses.c.size,
            )
            .join(chain, responses.c.id == chain.c.previous_id)
            .where(own, chain.c.turn < max_turns, chain.c.total <= max_size)
        )
        query = _columns().add_columns(chain.c.total).join(chain, chain.c.id == responses.c.id)
        query = query.order_by(chain.c.turn.desc())
        rows = await self._timely(self._store.read(lambda c: c.execute(query).all()))
        return Conversation(tuple(map(_stored, rows)), rows[0].total if rows else 0)

    async def delete(self, response_id: str, tenant: str) -> bool:
        """Delete a tenant's response; whether it was there."""
        statement = delete(responses).where(responses.c.id == response_id, responses.c.tenant == tenant)
        deleted = self._store.database.write_statement(lambda c: c.execute(statement).rowcount)
        return await self._timely(deleted) > 0

    async def prune(self, older_than: datetime, batch: int = PRUNE_BATCH) -> int:
        """Delete responses from before a time, a batch a transaction; their number."""

        def prune_some(connection: Connection) -> int:
            query = select(responses.c.id).where(responses.c.created_at < older_than)
            ids = connection.execute(query.order_by(responses.c.created_at).limit(batch)).scalars().all()
            if ids:
                connection.execute(delete(responses).where(responses.c.id.in_(ids)))
            return len(ids)

        pruned = 0
        while deleted := await self._store.database.write(prune_some):
            pruned += deleted
        return pruned

    async def retain(self, days: float, every: float = PRUNE_SECONDS) -> None:
        """Prune what is older than some days, every so often, until cancelled.

        Args:
            days: How long responses stay.
            every: Seconds between two times.
        """
        while True:
            await asyncio.sleep(every)
            try:
                if pruned := await self.prune(datetime.now(UTC) - timedelta(days=days)):
                    log.info("old responses deleted", count=pruned)
            except AuditError as error:
                log.warning("old responses not deleted", reason=str(error))

    async def _timely(self, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._deadline):
                return await work
        except TimeoutError as error:
            reason = f"the database took over {self._deadline:g} s"
            raise AuditError(f"{self._store.location}: {reason}") from error


def _columns() -> Select[tuple[str, str, datetime, str | None, str, str]]:
    table = responses.c
    return select(table.id, table.tenant, table.created_at, table.previous_id, table.input, table.body)


def _stored(row: Row[tuple[str, str, datetime, str | None, str, str]]) -> StoredResponse:
    return StoredResponse(row.id, row.tenant, row.created_at, row.previous_id, row.input, row.body)
