"""One run of an engine: the supervised process, its pipe and its log."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from guard.upstream import supervise

_GRACE_SECONDS = 5.0
"""Between asking an engine to end and killing it."""
_LAST_RESORT_SECONDS = 15.0
"""After which the supervisor itself is killed, with its group."""


class Child:
    """A started command that ends with this process, whatever becomes of this process."""

    def __init__(self, process: asyncio.subprocess.Process, pipe: int) -> None:
        """Take over a started supervisor and the write end of its pipe; see ``start``."""
        self._process = process
        self._pipe: int | None = pipe

    @classmethod
    async def start(cls, command: Sequence[str], env: Mapping[str, str], log: Path) -> Child:
        """Start ``command`` under a supervisor; its output goes to ``log``.

        Call it in a thread that lives as long as the child should: the supervisor asks the kernel
        for a signal when its parent dies, and the kernel means the thread.
        """
        read, write = os.pipe()
        try:
            with log.open("ab") as errors:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-I", "-S", supervise.__file__),
                    *("--pipe", str(read), "--parent", str(os.getpid())),
                    *("--log", str(log), "--grace", str(_GRACE_SECONDS), "--", *command),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=errors,
                    env=env,
                    pass_fds=(read,),
                    start_new_session=True,
                )
        except BaseException:
            os.close(write)
            raise
        finally:
            os.close(read)
        return cls(process, write)

    async def wait(self) -> int:
        """Wait for the engine to end by itself; its exit code."""
        return await self._process.wait()

    async def stop(self) -> None:
        """End the engine and everything it started; returns when they are gone.

        Cancelled, it has given the order all the same; the supervisor carries it out by itself.
        """
        self._close_pipe()
        try:
            async with asyncio.timeout(_LAST_RESORT_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._kill_group()
            await self._process.wait()
        self._kill_group()

    def _close_pipe(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def _kill_group(self) -> None:
        """Kill what the supervisor left, if it was itself killed before it could do its work."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def last_lines(log: Path, count: int = 20) -> list[str]:
    """The last lines of a log, progress bars reduced to their last state."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 32_768))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line.rstrip().rsplit("\r", 1)[-1] for line in text.split("\n")]
    return [line for line in lines if line][-count:]
