"""Stored responses, on both databases."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from guard.audit.responses import ResponseStore, StoredResponse
from guard.audit.store import AuditStore
from guard.errors import AuditError

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def response(number: int, previous: int | None = None, tenant: str = "app") -> StoredResponse:
    """A response whose input and body are ten characters together."""
    return StoredResponse(
        id=f"resp_{number:026x}",
        tenant=tenant,
        created_at=START + timedelta(hours=number),
        previous_id=None if previous is None else f"resp_{previous:026x}",
        input="[1, 2]",
        body='{""}',
    )


@pytest.fixture
async def responses(store: AuditStore) -> ResponseStore:
    """A store of responses in an empty database."""
    return ResponseStore(store, deadline=30)


async def _chain(responses: ResponseStore, length: int) -> list[StoredResponse]:
    turns = [response(n, n - 1 if n else None) for n in range(length)]
    for turn in turns:
        await responses.save(turn)
    return turns


async def test_a_response_comes_back_as_it_was(responses: ResponseStore) -> None:
    """Every field survives, also text that databases find hard when it is not JSON."""
    kept = StoredResponse("resp_x", "app", START, None, r'["\u0000 ä 😀"]', '{"a": "\\ud83d"}')
    await responses.save(kept)

    assert await responses.get("resp_x", "app") == kept


async def test_another_tenants_response_is_not_there(responses: ResponseStore) -> None:
    """One key can neither read nor delete nor go on with another's response."""
    await responses.save(response(1))

    assert await responses.get(response(1).id, "other") is None
    assert not await responses.delete(response(1).id, "other")
    assert not (await responses.conversation(response(1).id, "other", max_turns=9, max_size=99)).turns
    assert await responses.get(response(1).id, "app") is not None


async def test_a_conversation_goes_back_to_its_beginning(responses: ResponseStore) -> None:
    """All turns come back, oldest first, and no turn of another branch."""
    turns = await _chain(responses, 4)
    await responses.save(response(9, 1))

    found = await responses.conversation(turns[3].id, "app", max_turns=99, max_size=999)
    branch = await responses.conversation(response(9).id, "app", max_turns=99, max_size=999)

    assert (list(found.turns), found.size, found.whole) == (turns, 40, True)
    assert [turn.id for turn in branch.turns] == [response(n).id for n in (0, 1, 9)]


async def test_a_conversation_never_crosses_tenants(responses: ResponseStore) -> None:
    """A turn that names another tenant's response ends there."""
    await responses.save(response(1, tenant="other"))
    await responses.save(response(2, 1))

    found = await responses.conversation(response(2).id, "app", max_turns=9, max_size=99)
    assert ([turn.id for turn in found.turns], found.whole) == ([response(2).id], False)


@pytest.mark.parametrize(("turns", "size", "wanted"), [(2, 999, 2), (99, 25, 3), (99, 30, 4), (1, 0, 1)])
async def test_long_conversations_are_read_in_part(
    responses: ResponseStore, turns: int, size: int, wanted: int
) -> None:
    """Reading stops at the limits and says that the beginning is missing."""
    chain = await _chain(responses, 6)
    found = await responses.conversation(chain[-1].id, "app", max_turns=turns, max_size=size)

    assert (list(found.turns), found.whole) == (chain[-wanted:], False)


async def test_a_deleted_turn_breaks_the_conversation(responses: ResponseStore) -> None:
    """Deleting means deleting: later turns do not keep what was deleted."""
    chain = await _chain(responses, 3)

    assert await responses.delete(chain[1].id, "app")
    assert not await responses.delete(chain[1].id, "app")
    found = await responses.conversation(chain[2].id, "app", max_turns=9, max_size=99)
    assert (list(found.turns), found.whole) == ([chain[2]], False)


async def test_old_responses_are_pruned_in_batches(responses: ResponseStore) -> None:
    """Everything from before a time goes, whoever's it is, and the rest stays."""
    for number in range(6):
        await responses.save(response(number, tenant=f"t{number % 2}"))

    assert await responses.prune(START + timedelta(hours=4), batch=3) == 4
    assert await responses.prune(START + timedelta(hours=4)) == 0
    assert await responses.get(response(4).id, "t0") is not None


async def test_responses_stay_for_some_days(responses: ResponseStore) -> None:
    """What is too old goes without being asked."""
    old = replace(response(1), created_at=datetime.now(UTC) - timedelta(days=31))
    young = replace(response(2), created_at=datetime.now(UTC) - timedelta(days=29))
    for kept in (old, young):
        await responses.save(kept)

    pruning = asyncio.create_task(responses.retain(30, every=0.01))
    while await responses.get(old.id, "app") is not None:
        await asyncio.sleep(0.01)
    pruning.cancel()

    assert await responses.get(young.id, "app") is not None


async def test_an_id_is_kept_once(responses: ResponseStore) -> None:
    """A response is never replaced by another."""
    await responses.save(response(1))

    with pytest.raises(AuditError):
        await responses.save(response(1, tenant="other"))
    assert await responses.get(response(1).id, "app") is not None


async def test_a_database_without_the_table_is_an_error(store: AuditStore) -> None:
    """Before the schema is up to date nothing can be kept, and nothing else is raised."""
    await store.database.write(lambda c: c.exec_driver_sql("DROP TABLE responses"))

    with pytest.raises(AuditError):
        await ResponseStore(store).save(response(1))


async def test_a_slow_database_is_an_error_in_time(sqlite_store: AuditStore) -> None:
    """A request does not wait longer than the deadline."""
    with closing(sqlite3.connect(sqlite_store.location)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(AuditError, match=r"took over 0\.05 s"):
            await ResponseStore(sqlite_store, deadline=0.05).save(response(1))
