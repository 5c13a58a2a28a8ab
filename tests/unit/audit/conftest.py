"""Stores to test, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from guard.audit.store import AuditStore


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind: a path or a URL."""
    if request.param == "sqlite":
        return str(tmp_path / "audit.db")
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def store(database: str) -> AsyncIterator[AuditStore]:
    """An open store on each kind of database."""
    store = await AuditStore.open(database)
    yield store
    await store.close()


@pytest.fixture
async def sqlite_store(tmp_path: Path) -> AsyncIterator[AuditStore]:
    """An open store on SQLite, for what does not depend on the database."""
    store = await AuditStore.open(tmp_path / "audit.db")
    yield store
    await store.close()
