"""Clients with an environment of their own: one process for the cases of a module, asked line by line."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

Saw = Callable[..., Awaitable[Any]]
"""What the client saw, by case, the guard's address with ``/v1`` and key."""


@contextmanager
def standing(python: Path, script: str) -> Iterator[Saw]:
    """Keep a client's script running, which answers each line ``CASE URL KEY`` with a line of JSON.

    The line holds what the client has ``seen``, or the traceback with which it ``failed``.

    Args:
        python: The interpreter that has the client.
        script: A file of ``tests/clients``.
    """
    command = [python, Path(__file__).with_name(script)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        questions, answers = process.stdin, process.stdout

        def ask(case: str, url: str, key: str) -> Any:
            print(case, url, key, file=questions, flush=True)
            answer = orjson.loads(answers.readline())
            assert "failed" not in answer, answer["failed"]
            return answer["seen"]

        async def saw(case: str, url: str, key: str = "none") -> Any:
            return await asyncio.to_thread(ask, case, url, key)

        yield saw
