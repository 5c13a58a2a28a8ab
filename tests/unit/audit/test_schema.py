from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from guard.audit import migrate
from guard.audit.connect import open_database
from guard.audit.query import Filter, find
from guard.audit.schema import VERSION_TABLE, metadata
from guard.audit.store import AuditStore
from guard.errors import AuditError
from tests.unit.audit.factory import make_record

OPEN = """
import asyncio, sys
from guard.audit.store import AuditStore

async def main():
    sys.stdin.readline()
    store = await AuditStore.open(sys.argv[1])
    await store.close()

asyncio.run(main())
"""


async def test_migrations_lead_to_the_schema(store: AuditStore) -> None:
    """The migrated database has the tables, columns, types and indexes of the metadata, no more, no less."""

    def differences(connection: Connection) -> list[object]:
        options = {"version_table": VERSION_TABLE, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, metadata))

    assert await store.read(differences) == []


async def test_keys_are_compared_by_code_point(store: AuditStore) -> None:
    """On PostgreSQL every key column of text has collation C, so that ranges of ids mean the same."""

    def collations(connection: Connection) -> dict[str, str | None]:
        if connection.dialect.name == "sqlite":
            return {}
        rows = connection.execute(
            text(
                "SELECT table_name || '.' || column_name, collation_name FROM information_schema.columns "
                "WHERE table_schema = current_schema() AND collation_name IS NOT NULL"
            )
        )
        return {str(name): collation for name, collation in rows}

    found = await store.read(collations)
    keys = ["records.id", "citations.record_id", "citations.clause", "findings.record_id", "findings.finding"]
    assert all(found[key] == "C" for key in keys if found)


async def test_an_upgraded_database_is_left_alone(database: str) -> None:
    """Opening a second time finds nothing to do."""
    for _ in range(2):
        store = await AuditStore.open(database)
        assert await store.read(migrate.current_revision) == migrate.newest_revision()
        await store.close()


async def test_records_of_an_older_guard_are_kept(store: AuditStore, database: str) -> None:
    """The step to labels leaves what was recorded before it as it was, without any."""
    await store.write([make_record()])

    def back(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE records DROP COLUMN labels"))
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0002'"))

    await store.database.write(back)
    await store.close()
    upgraded = await AuditStore.open(database)
    assert await find(upgraded, Filter()) == [make_record(labels="")]
    await upgraded.close()


async def test_processes_may_start_at_once(database: str) -> None:
    """Several guards that start on an empty database all come up, and the schema is there once."""
    starters = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-c", OPEN, database), stdin=PIPE, stdout=PIPE, stderr=STDOUT
        )
        for _ in range(3)
    ]
    said = await asyncio.gather(*(starter.communicate(b"go\n") for starter in starters))
    assert [(starter.returncode, output) for starter, (output, _) in zip(starters, said, strict=True)] == [
        (0, b"")
    ] * 3
    store = await AuditStore.open_for_reading(database)
    assert await store.read(lambda c: inspect(c).has_table("records"))
    await store.close()


async def test_a_failed_migration_leaves_nothing(database: str) -> None:
    """A migration is one transaction: when it fails, an empty database is still empty."""
    target = open_database(database)

    def half(connection: Connection) -> None:
        migrate.upgrade(connection)
        raise AuditError("cut")

    with pytest.raises(AuditError, match="cut"):
        await target.write(half)
    assert await target.read(lambda c: inspect(c).get_table_names()) == []
    await target.close()


async def test_a_newer_schema_is_refused(store: AuditStore, database: str) -> None:
    """A database that a newer guard has changed is neither written nor read."""
    newer = text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    await store.database.write(lambda c: c.execute(newer))
    with pytest.raises(AuditError, match="newer guard"):
        await AuditStore.open(database)
    with pytest.raises(AuditError, match="schema 9999"):
        await AuditStore.open_for_reading(database)


async def test_reading_changes_nothing(database: str, tmp_path: Path) -> None:
    """Opening an empty database for reading says what is missing and creates no table."""
    if "://" not in database:
        Path(database).touch()
    with pytest.raises(AuditError, match="holds no audit log"):
        await AuditStore.open_for_reading(database)
    target = open_database(database)
    assert await target.read(lambda c: inspect(c).get_table_names()) == []
    await target.close()
