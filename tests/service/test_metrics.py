"""What ``/metrics`` and ``/readyz`` say of the records."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

from tests.guarded import Guarded, guarded


async def _metric(guard: Guarded, name: str) -> float:
    async with guard.session.get(guard.url.removesuffix("/v1") + "/metrics") as response:
        lines = (await response.text()).splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


async def _audit(guard: Guarded) -> dict[str, Any]:
    async with guard.session.get(guard.url.removesuffix("/v1") + "/readyz") as response:
        audit: dict[str, Any] = (await response.json())["audit"]
        return audit


async def test_the_spilled_are_those_that_wait_now(tmp_path: Path) -> None:
    """Records that are in the spill file are shown, until the database has taken them."""
    async with guarded(tmp_path) as guard:
        other = sqlite3.connect(guard.database, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            await guard.chat()
            assert await _metric(guard, "guard_audit_spilled") == 1
            assert (await _audit(guard))["spilled"] == 1
        finally:
            other.close()
        async with asyncio.timeout(60):
            while await _metric(guard, "guard_audit_spilled"):
                await asyncio.sleep(0.05)
        assert (await _audit(guard))["spilled"] == 0
        assert await _metric(guard, "guard_audit_replayed_total") == 1


async def test_records_that_were_dropped_are_counted(tmp_path: Path) -> None:
    """In mode background every choice is recorded or counted as dropped."""
    background = {"mode": "background", "max_pending": 1}
    async with guarded(tmp_path, audit=background) as guard:
        await asyncio.gather(*(guard.chat(n=8) for _ in range(4)))
        dropped = await _metric(guard, "guard_audit_dropped_total")
        async with asyncio.timeout(60):
            while len(await guard.records()) + dropped < 32:
                await asyncio.sleep(0.05)
        assert len(await guard.records()) + dropped == 32
        assert (await _audit(guard))["dropped"] == dropped > 0
