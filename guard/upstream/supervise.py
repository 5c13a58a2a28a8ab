"""Runs an engine so that it cannot outlive the guard: ``python -m guard.upstream.supervise``.

    supervise --pipe FD --parent PID --log FILE [--log-bytes N] [--grace SECONDS] -- COMMAND…

The guard starts this small process and keeps the write end of a pipe that nobody else has. When the
guard ends, however it ends (``kill -9`` included), the kernel closes that end, the read end here
reports it, and everything under this process is stopped: asked once, then killed. An orderly stop is
the same event: the guard closes the pipe.

Engines start processes of their own (vLLM's EngineCore), and those may leave the process group. So
this process is a *child subreaper*: whatever loses its parent below it becomes its own child, is found
and is ended. Two more belts, for the cases in which the pipe cannot speak: this process is signalled
when its parent dies, the engine when this process dies.

The engine's output goes through here into a log of bounded size: at the limit the file becomes
``FILE.1`` and a new one begins. Exits with the engine's exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_KILL_SECONDS = 5.0
"""How long to go on killing; a process that survives that is stuck inside the kernel."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command until it ends, the guard ends or a signal says stop; its exit code."""
    options = _options(argv)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    wake = _wake_on_signals()
    if os.getppid() != options.parent:
        return 0  # the guard died before the death signal was set
    log = _Log(options.log, options.log_bytes)
    try:
        engine = subprocess.Popen(
            options.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,
        )
    except OSError as error:
        log.write(f"cannot start {options.command[0]}: {error.strerror}\n".encode())
        return 127
    assert engine.stdout is not None
    output = engine.stdout.fileno()
    _run(engine, output, options.pipe, wake, log)
    _end(engine, output, log, options.grace)
    code = engine.returncode
    return 128 - code if code is not None and code < 0 else code or 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="supervise", description="Run an engine under the guard.")
    parser.add_argument("--pipe", type=int, required=True, help="read end of the guard's pipe")
    parser.add_argument("--parent", type=int, required=True, help="the guard's process id")
    parser.add_argument("--log", type=Path, required=True, help="where the engine's output goes")
    parser.add_argument("--log-bytes", type=int, default=10_000_000, help="size of one log file")
    parser.add_argument("--grace", type=float, default=5.0, help="seconds between asking and killing")
    parser.add_argument("command", nargs="+", help="the engine's command line, after --")
    return parser.parse_args(argv)


def _run(engine: subprocess.Popen[bytes], output: int, pipe: int, wake: int, log: _Log) -> None:
    """Copy the output until the engine ends or is to be ended."""
    sources = [pipe, wake, output]
    while engine.poll() is None:
        ready, _, _ = select.select(sources, [], [])
        if output in ready and not log.copy(output):
            sources.remove(output)
        if wake in ready and any(number in _STOP_SIGNALS for number in os.read(wake, 512)):
            return
        if pipe in ready and not os.read(pipe, 1):
            return
        _reap(engine)


def _end(engine: subprocess.Popen[bytes], output: int, log: _Log, grace: float) -> None:
    """Ask everything below to end, then kill what has not."""
    _signal_all(signal.SIGTERM)
    deadline = time.monotonic() + grace
    while True:
        _reap(engine)
        left = _descendants()
        now = time.monotonic()
        if not left or now > deadline + _KILL_SECONDS:
            break
        if engine.poll() is not None or now > deadline:
            _signal_all(signal.SIGKILL)
        ready, _, _ = select.select([output], [], [], 0.02)
        if ready and not log.copy(output):
            time.sleep(0.02)
    while select.select([output], [], [], 0)[0] and log.copy(output):
        pass


def _reap(engine: subprocess.Popen[bytes]) -> None:
    """Collect ended processes: the engine through its own object, adopted ones here."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None:
            return
        if ended.si_pid == engine.pid:
            engine.poll()
        else:
            os.waitpid(ended.si_pid, 0)


def _descendants() -> list[int]:
    """Every living process below this one."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            state, parent = stat[stat.rindex(")") + 2 :].split(" ", 2)[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry))
    found: list[int] = []
    level = [os.getpid()]
    while level:
        level = [child for parent in level for child in children.get(parent, [])]
        found += level
    return found


def _signal_all(number: int) -> None:
    for process in _descendants():
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue


def _wake_on_signals() -> int:
    """A descriptor that becomes readable with each signal; it yields the signals' numbers."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    for number in (*_STOP_SIGNALS, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)  # a handler, not SIG_IGN: that the engine would keep
    return read


def _die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


class _Log:
    """Appends to a file and starts a new one at a size, keeping one old file."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._file = path.open("ab", buffering=0)

    def write(self, data: bytes) -> None:
        """Append; a full disk costs log lines, not the engine."""
        with contextlib.suppress(OSError):
            if self._file.tell() + len(data) > self._limit:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                self._file.close()
                self._file = self._path.open("ab", buffering=0)
            self._file.write(data)

    def copy(self, source: int) -> bool:
        """Write what there is to read; False at its end."""
        data = os.read(source, 65536)
        if data:
            self.write(data)
        return bool(data)


if __name__ == "__main__":
    sys.exit(main())
