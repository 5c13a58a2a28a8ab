"""What the commands say, as processes that an operator starts."""

from __future__ import annotations

import asyncio
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from guard.audit.store import AuditStore
from guard.config import load_settings
from guard.errors import AuditError, ConfigError
from tests.process import run_guard, serving_process
from tests.scripted import Reply, ScriptedEngine

MODELS = Reply.json({"object": "list", "data": [{"id": "scripted", "object": "model"}]})


async def test_serve_prints_commands_that_work_and_no_password(tmp_path: Path) -> None:
    """An IPv6 address stands in brackets, the database without its password, both quoted for a shell."""
    database = "postgresql://guard:hidden@127.0.0.1:1/guard log"
    async with ScriptedEngine() as engine:
        engine.otherwise(lambda request: MODELS)
        async with serving_process(
            "--upstream", engine.base_url, "--database", database, "--host", "::1", folder=tmp_path
        ) as guard:
            pass
    said = "".join(guard.lines)

    assert guard.url.startswith("http://[::1]:")
    assert f"curl '{guard.url}/chat/completions' " in said
    assert "log --database 'postgresql://guard@127.0.0.1:1/guard log'\n" in said
    assert "hidden" not in said


@pytest.mark.parametrize("name", ["team-a", 'O"Brien', "back\\slash", "Zoë 😀", "long " * 30])
async def test_a_new_key_is_printed_with_lines_that_are_toml(name: str, tmp_path: Path) -> None:
    """Whatever the name, the lines for the configuration file can be read as such."""
    status, key, told = await run_guard("key", "new", name, "--scope", "audit", folder=tmp_path)

    (entry,) = tomllib.loads(told.partition("file:\n")[2])["keys"]
    assert (status, entry["name"], entry["scopes"]) == (0, name, ["audit"])
    assert key.strip() not in told


@pytest.fixture(name="private")
def _private(tmp_path: Path) -> Iterator[Path]:
    """A folder that this process, without the rights of root, may not enter."""
    folder = tmp_path / "private"
    folder.mkdir(mode=0)
    rights = os.geteuid()
    if rights == 0:
        tmp_path.chmod(0o755)
        os.seteuid(65534)
    yield folder
    os.seteuid(rights)


def test_a_file_that_may_not_be_seen_is_an_error_of_the_package(private: Path) -> None:
    """A folder that may not be entered ends a command with one line, and not with a traceback."""
    for open_it, kind in ((load_settings, ConfigError), (_open_for_reading, AuditError)):
        with pytest.raises(kind, match=r"private/guard\.file: cannot be (read|opened): Permission denied"):
            open_it(private / "guard.file")


def _open_for_reading(path: Path) -> None:
    asyncio.run(AuditStore.open_for_reading(path))
