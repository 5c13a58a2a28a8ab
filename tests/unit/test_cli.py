"""What the commands say, as processes that an operator starts."""

from __future__ import annotations

from pathlib import Path

from tests.process import serving_process
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
