"""A guard whose PostgreSQL server restarts, goes away, or comes late."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from guard.audit.store import AuditStore
from guard.policy.load import load_policy
from tests.guarded import POLICY, Guarded, ask, guarded
from tests.postgres import PostgresServer

RECORDS = "/guard/v1/records"
UNREACHABLE = "The records cannot be reached now. Try again later."


async def _get(guard: Guarded, path: str) -> tuple[int, Any]:
    async with guard.session.get(guard.url.removesuffix("/v1") + path) as response:
        return response.status, await response.json()


async def _until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await check():
            await asyncio.sleep(0.05)


def _policy(tmp_path: Path) -> Path:
    folder = tmp_path / "policy"
    shutil.copytree(POLICY, folder)
    return folder


def _edit(folder: Path) -> str:
    """Change the manifest; the new policy's digest."""
    path = folder / "policy.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("title: ", "title: New ", 1), encoding="utf-8")
    return load_policy(folder).digest


async def _stored(url: str, *digests: str) -> None:
    """Wait until the database holds these versions of the policy, the latest first."""
    store = await AuditStore.open(url)

    async def check() -> bool:
        return tuple(policy.digest for policy in await store.policies("default")) == digests

    try:
        await _until(check)
    finally:
        await store.close()


async def test_a_restarted_server_is_used_again_at_once(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    """After a restart of the server, the first read of a record and the first stored response succeed."""
    async with guarded(tmp_path, audit={"database": postgres_url}) as guard:
        _, headers, _ = await guard.post(ask())
        await asyncio.to_thread(postgres.stop, "fast")
        await asyncio.to_thread(postgres.start)
        status, record = await _get(guard, f"{RECORDS}/{headers['x-guard-request-id']}")
        await asyncio.to_thread(postgres.stop, "fast")
        await asyncio.to_thread(postgres.start)
        asked = {"model": "default", "input": "How do I sharpen a knife?"}
        _, _, response = await guard.post(asked, "/responses")
        found, _ = await _get(guard, f"/v1/responses/{response['id']}")

    assert (status, record["request_id"]) == (200, headers["x-guard-request-id"])
    assert found == 200


async def test_a_version_from_while_the_server_was_away_is_stored(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    """A policy edited while the server is away is in force, and stored when the server is back."""
    folder = _policy(tmp_path)
    first = load_policy(folder).digest
    async with guarded(tmp_path, policies=(folder,), audit={"database": postgres_url}) as guard:

        async def in_force() -> bool:
            _, body = await _get(guard, "/readyz")
            return bool(body["policies"]["default"]["digest"] == digest[:12])

        await asyncio.to_thread(postgres.stop)
        try:
            digest = _edit(folder)
            await _until(in_force)
        finally:
            await asyncio.to_thread(postgres.start)
        await _stored(postgres_url, digest, first)


async def test_a_server_that_comes_late_gets_the_policy(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    """The policy of a guard that started before its server is stored when the server comes."""
    await asyncio.to_thread(postgres.stop, "fast")
    try:
        running = guarded(tmp_path, audit={"database": postgres_url})
        await running.__aenter__()
    finally:
        await asyncio.to_thread(postgres.start)
    try:
        await _stored(postgres_url, load_policy(POLICY).digest)
    finally:
        await running.__aexit__(None, None, None)


async def test_reads_say_that_the_database_is_away(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    """While the server is away, reading records is 503 and says why; a time that is none stays 400."""
    async with guarded(tmp_path, audit={"database": postgres_url}) as guard:
        _, headers, _ = await guard.post(ask())
        one = f"{RECORDS}/{headers['x-guard-request-id']}"
        await asyncio.to_thread(postgres.stop, "fast")
        try:
            answers = [await _get(guard, path) for path in (one, RECORDS)]
            status, _ = await _get(guard, f"{RECORDS}?since=0001-01-01T00:00%2B10:00")
        finally:
            await asyncio.to_thread(postgres.start)

    assert [(code, body["error"]["message"]) for code, body in answers] == [(503, UNREACHABLE)] * 2
    assert status == 400
