"""``guard try`` against an engine that thinks well, and engines whose thinking cannot be read."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from guard.audit.query import Filter, find
from guard.audit.store import AuditStore
from tests.guarded import HARMLESS, answering, engine_reply
from tests.process import ROOT
from tests.scripted import Reply, ScriptedEngine


async def run(folder: Path, reply: Reply) -> tuple[int | None, str, str]:
    """Exit status, output and error output of one trial."""
    async with ScriptedEngine() as engine:
        engine.otherwise(answering(lambda request: reply))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "guard", "try", "--upstream", engine.base_url),
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "GUARD_AUDIT__DATABASE": "guard.db"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_an_engine_that_can_be_read_is_said_so(tmp_path: Path) -> None:
    """Two questions, what came of each, and a record of each."""
    status, out, err = await run(tmp_path, engine_reply())
    store = await AuditStore.open_for_reading(str(tmp_path / "guard.db"))
    records = await find(store, Filter())
    await store.close()

    assert status == 0, err
    assert out.count("decision comply") == out.count("With a whetstone.") == 2
    assert [record.endpoint for record in records] == ["try", "try"]


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (engine_reply("With a whetstone.", ""), "no thinking was found"),
        (engine_reply("", f"{HARMLESS}With a whetstone."), "the reasoning parser does not fit"),
        (engine_reply("With a whetstone.", "Hm."), "the thinking holds no decision"),
    ],
)
async def test_what_cannot_be_read_is_said_with_its_cause(tmp_path: Path, reply: Reply, fault: str) -> None:
    """Field lessons 29 and 59: mismatched parsers and broken weights went unnoticed until users met them."""
    status, _, err = await run(tmp_path, reply)

    assert status == 1
    assert err.count(fault) == 1


async def test_an_engine_that_fails_is_an_error(tmp_path: Path) -> None:
    """Without a traceback."""
    status, _, err = await run(tmp_path, Reply.json({"error": {"message": "boom"}}, 500))

    assert status == 1
    assert "guard:" in err
    assert "Traceback" not in err
