"""The guard as the operator starts it: a process with its command line."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass
class Serving:
    """A running ``guard serve``."""

    process: asyncio.subprocess.Process
    url: str
    """Address with ``/v1``."""
    folder: Path
    """Its working directory."""
    lines: list[str] = field(default_factory=list)
    """What it printed, standard output and error together."""


@asynccontextmanager
async def serving_process(
    *arguments: str, folder: Path, within: float = 60, env: dict[str, str] | None = None
) -> AsyncIterator[Serving]:
    """Run ``guard serve`` on a free port until the block ends, then stop it with SIGTERM.

    Args:
        arguments: Options beside port and database.
        folder: Working directory; database and logs go there.
        within: Seconds until it must say that it is ready.
        env: Environment variables beside this process's own.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "guard", "serve", "--port", "0", "--database", "guard.db", *arguments),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **(env or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    lines: list[str] = []
    try:
        url = await asyncio.wait_for(_ready(process, lines), within)
        reading = asyncio.create_task(_collect(process, lines))
        yield Serving(process, url, folder, lines)
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), 60)
        await reading
    except BaseException:
        sys.stderr.write("".join(lines))
        raise
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def run_guard(*arguments: str, folder: Path) -> tuple[int, str, str]:
    """Run a ``guard`` command to its end: status, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "guard", *arguments),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), error.decode()


async def _ready(process: asyncio.subprocess.Process, lines: list[str]) -> str:
    assert process.stdout is not None
    async for line in process.stdout:
        lines.append(line.decode())
        if match := re.match(r"ready\s+(http\S+)", lines[-1]):
            return match[1]
    raise AssertionError("guard serve ended before it was ready:\n" + "".join(lines))


async def _collect(process: asyncio.subprocess.Process, lines: list[str]) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        lines.append(line.decode())
