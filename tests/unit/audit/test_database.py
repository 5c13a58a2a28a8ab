from __future__ import annotations

import asyncio
import sqlite3
import traceback
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from guard.audit.connect import open_database, without_password
from guard.audit.database import Unstorable
from guard.audit.postgresql import safe_url
from guard.audit.store import AuditStore
from guard.errors import AuditError
from tests.postgres import PostgresServer
from tests.unit.audit.factory import make_record


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@db:5432/audit", "postgresql://db:5432/audit"),
        ("postgresql://u:p@ss@db/audit?sslpassword=secret", "postgresql://db/audit"),
        ("postgresql:///audit?host=/run&password=secret", "postgresql:///audit"),
        ("postgresql://[bad/secret", "postgresql://…"),
        ("postgresql://u:sec/ret@db/audit", "postgresql://…"),
        ("postgresql://u:sec#ret@db/audit", "postgresql://…"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    """Neither password nor parameters are shown."""
    assert safe_url(url) == shown


@pytest.mark.parametrize(
    ("database", "shown"),
    [
        (
            "postgresql://u:secret@db:5432/audit?sslmode=require",
            "postgresql://u@db:5432/audit?sslmode=require",
        ),
        ("postgres://u:p@ss@db/audit?sslpassword=secret", "postgres://u@db/audit"),
        ("postgresql:///audit?host=%2Frun&password=secret", "postgresql:///audit?host=%2Frun"),
        ("postgresql://[bad/secret", "postgresql://…"),
        ("postgresql://u:sec/ret@db/audit", "postgresql://…"),
        ("var/guard@home.db", "var/guard@home.db"),
        ("sqlite:///guard@home.db", "sqlite:///guard@home.db"),
    ],
)
def test_a_database_can_be_typed_again_without_its_password(database: str, shown: str) -> None:
    """User, host and other parameters stay, so that what is shown works where PGPASSWORD is set."""
    assert without_password(database) == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://guard:secret@127.0.0.1:1/audit",
        "postgresql://guard:secret@127.0.0.1:none/audit",
        "postgresql://guard:secret@127.0.0.1:1/audit?sslmode=secret",
        "postgresql://guard:secret@[::1/audit",
    ],
)
async def test_no_error_holds_the_password(url: str) -> None:
    """A database that cannot be reached, or a URL that cannot be read, is reported without the password."""
    with pytest.raises(AuditError) as caught:
        await AuditStore.open(url)
    assert "secret" not in "".join(traceback.format_exception(caught.value))


async def test_errors_hold_no_record_text(store: AuditStore) -> None:
    """The reason a statement failed comes without the statement and without the client's words."""
    broken = make_record(prompt_tokens=2**70, messages="the client's words")
    with pytest.raises(Unstorable) as caught:
        await store.write([broken])
    assert "client's words" not in "".join(traceback.format_exception(caught.value))
    assert "INSERT" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://db/audit", "", ":memory:", "sqlite://"])
async def test_other_databases_are_refused(url: str) -> None:
    """What is neither a file nor PostgreSQL is refused with what to do."""
    with pytest.raises(AuditError, match="audit database"):
        await AuditStore.open(url)


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}"])
async def test_a_path_may_be_written_as_url(form: str, tmp_path: Path) -> None:
    """A path and its SQLite URL are the same file, and missing folders are made."""
    path = tmp_path / "var" / "audit 100%.db"
    store = await AuditStore.open(form.format(path))
    await store.close()
    assert path.is_file()
    assert store.location == str(path)


async def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Conversations are private: database, journal and index can be read by nobody else."""
    store = await AuditStore.open(tmp_path / "audit.db")
    await store.write([make_record()])
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(["audit.db", "audit.db-wal", "audit.db-shm"], 0o600)
    await store.close()


async def test_sqlite_is_durable(tmp_path: Path) -> None:
    """The writer's connection is in WAL mode and syncs the journal before a commit returns."""
    target = open_database(tmp_path / "audit.db")
    for work in (target.write, target.write_statement):
        assert await work(lambda c: c.execute(text("PRAGMA synchronous")).scalar()) == 2
        assert await work(lambda c: c.execute(text("PRAGMA journal_mode")).scalar()) == "wal"
    await target.close()


async def test_a_missing_file_is_not_created_for_reading(tmp_path: Path) -> None:
    """Reading a database that is not there says so and leaves nothing behind."""
    with pytest.raises(AuditError, match="no such database"):
        await AuditStore.open_for_reading(tmp_path / "audit.db")
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """Another file is not touched."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to have a header of some kind or other\n" * 20)
    before = path.read_bytes()
    with pytest.raises(AuditError, match="not a database"):
        await AuditStore.open(path)
    assert path.read_bytes() == before


async def test_a_reader_cannot_write(sqlite_store: AuditStore) -> None:
    """A store that is opened for reading refuses to write."""
    reader = await AuditStore.open_for_reading(sqlite_store.location)
    with pytest.raises(AuditError, match="readonly"):
        await reader.write([make_record()])
    await reader.close()


async def test_readers_do_not_wait_for_writers(sqlite_store: AuditStore) -> None:
    """A read works while another process holds the write lock."""
    await sqlite_store.write([make_record()])
    other = sqlite3.connect(sqlite_store.location, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    count = await sqlite_store.read(lambda c: c.execute(text("SELECT count(*) FROM records")).scalar())
    assert count == 1
    other.close()


async def test_a_transaction_is_all_or_nothing(store: AuditStore) -> None:
    """When one record of a batch cannot be stored, none is."""
    with pytest.raises(Unstorable):
        await store.write([make_record(1), make_record(2, prompt_tokens=2**70), make_record(3)])
    assert await store.read(lambda c: c.execute(text("SELECT count(*) FROM records")).scalar()) == 0


async def test_a_dead_connection_is_replaced(postgres: PostgresServer, postgres_url: str) -> None:
    """After the server ended the pool's connections, the next write works."""
    store = await AuditStore.open(postgres_url)
    await store.write([make_record(1)])
    postgres.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'guard' AND pid <> pg_backend_pid()"
    )
    await store.write([make_record(2)])
    assert await store.read(lambda c: c.execute(text("SELECT count(*) FROM records")).scalar()) == 2
    await store.close()


async def test_closing_waits_for_running_work(sqlite_store: AuditStore) -> None:
    """Work that was begun before the close is done when it returns."""
    batches = [asyncio.create_task(sqlite_store.write([make_record(number)])) for number in range(5)]
    await asyncio.sleep(0)
    await sqlite_store.close()
    await asyncio.gather(*batches)
    with sqlite3.connect(sqlite_store.location) as connection:
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (5,)
    connection.close()


async def test_a_new_file_that_another_process_writes_is_waited_for(tmp_path: Path) -> None:
    """SQLite itself would not wait: the switch to WAL fails at once while another has begun to write."""
    path = tmp_path / "guard.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        opening = asyncio.create_task(AuditStore.open(path))
        await asyncio.wait([opening], timeout=0.1)
        assert not opening.done()
        other.execute("COMMIT")
    store = await opening
    assert await store.read(lambda c: c.execute(text("PRAGMA journal_mode")).scalar()) == "wal"
    await store.close()
