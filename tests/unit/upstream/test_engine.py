from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from guard.errors import ConfigError
from guard.upstream.client import Upstream
from guard.upstream.command import EngineSpec
from guard.upstream.engine import Engine, EngineState, RestartPolicy

FAST = RestartPolicy(
    first_pause=0.01, longest_pause=0.02, quick_deaths=3, health_interval=0.02, sick_checks=2
)
FAKE = Path(__file__).with_name("fake_engine.py")


@pytest.fixture(name="pids")
def _pids(tmp_path: Path) -> Path:
    return tmp_path / "pids"


@pytest.fixture(name="make")
def _make(tmp_path: Path, pids: Path) -> Callable[..., Engine]:
    """Engines that run the stand-in in place of an interpreter."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {FAKE} "$@"\n')
    python.chmod(0o755)

    def make(mode: str = "serve", start_timeout: float = 30.0) -> Engine:
        env = {"FAKE_MODE": mode, "FAKE_PIDS": str(pids)}
        spec = EngineSpec("transformers", "no-model", python=str(python), env=env, gpu=False)
        log = tmp_path / "var" / "engine.log"
        return Engine(spec, log=log, start_timeout=start_timeout, restarts=FAST, poll_interval=0.02)

    return make


def processes(pids: Path) -> list[int]:
    """Every process that a stand-in ever noted."""
    return [int(line) for line in pids.read_text().split()] if pids.exists() else []


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def state_of(engine: Engine) -> EngineState:
    """The state now; a type checker believes that attributes keep what was once compared."""
    return engine.state


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; a test that hangs here has failed."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_started_engine_has_answered_and_a_stopped_one_is_gone(
    make: Callable[..., Engine], pids: Path
) -> None:
    """Start returns after a first answer; stop ends the engine and the grandchild that hid."""
    engine = make()
    told: list[str] = []
    await engine.start(told.append)
    upstream = Upstream(engine.base_url)
    await upstream.start()
    await until(lambda: len(processes(pids)) == 2)

    assert engine.state is EngineState.READY
    assert await upstream.healthy()
    assert told[-1] == "answering a first request"

    await upstream.close()
    await engine.stop()

    assert state_of(engine) is EngineState.STOPPED
    assert [alive(pid) for pid in processes(pids)] == [False, False]


async def test_an_engine_that_dies_at_start_shows_its_last_lines(
    make: Callable[..., Engine],
) -> None:
    """The error of a failed start names the exit code and holds the last 20 lines of the log."""
    engine = make("die")

    with pytest.raises(ConfigError, match="exit code 3") as caught:
        await engine.start()

    lines = str(caught.value).splitlines()
    assert lines[1:] == [f"  line {at}" for at in range(10, 30)]
    assert engine.state is EngineState.FAILED
    await engine.stop()


async def test_an_engine_whose_interpreter_is_missing_says_so(tmp_path: Path) -> None:
    """A wrong interpreter is an error with the reason."""
    spec = EngineSpec("vllm", "no-model", python=str(tmp_path / "nothing"))
    engine = Engine(spec, log=tmp_path / "log")

    with pytest.raises(ConfigError, match="No such file"):
        await engine.start()


async def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A log path that is no file is an error before anything is started."""
    with pytest.raises(ConfigError, match="cannot be written"):
        await Engine(EngineSpec("vllm", "no-model"), log=tmp_path).start()


async def test_an_engine_that_never_serves_is_given_up(make: Callable[..., Engine], pids: Path) -> None:
    """After the start timeout the engine is ended and the error says how long it was waited for."""
    engine = make("never", start_timeout=1.0)

    with pytest.raises(ConfigError, match="not ready after 1 s"):
        await engine.start()

    assert not any(alive(pid) for pid in processes(pids))


async def test_an_engine_that_cannot_answer_is_not_ready(make: Callable[..., Engine]) -> None:
    """Healthy is not enough: an engine whose first answer fails has not started."""
    with pytest.raises(ConfigError, match="first request"):
        await make("deaf").start()


async def test_a_start_that_is_cancelled_leaves_nothing(make: Callable[..., Engine], pids: Path) -> None:
    """Cancelling a start ends the half-started engine."""
    engine = make("never")
    task = asyncio.create_task(engine.start())
    await until(lambda: len(processes(pids)) == 2)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not any(alive(pid) for pid in processes(pids))


async def test_a_killed_engine_is_started_again_at_its_address(
    make: Callable[..., Engine], pids: Path
) -> None:
    """An engine that dies comes back under the same address, and what it left is gone."""
    engine = make()
    await engine.start()
    await until(lambda: len(processes(pids)) == 2)
    address = engine.base_url
    first = processes(pids)

    os.kill(first[0], signal.SIGKILL)
    await until(lambda: engine.starts == 2 and engine.state is EngineState.READY)

    assert engine.base_url == address
    assert [alive(pid) for pid in first] == [False, False]
    await engine.stop()


async def test_an_engine_that_keeps_dying_stays_down(make: Callable[..., Engine]) -> None:
    """After several quick deaths in a row no more is tried, and the state says why."""
    engine = make("brief")
    await engine.start()

    await until(lambda: engine.state is EngineState.FAILED)

    assert engine.starts == 3
    assert "exit code 4" in engine.detail
    await engine.stop()


async def test_a_sick_engine_is_started_again(make: Callable[..., Engine], pids: Path) -> None:
    """An engine that lives but says it is not well is replaced."""
    engine = make("sick")
    await engine.start()
    await until(lambda: engine.starts == 2 and engine.state is EngineState.READY)

    assert not alive(processes(pids)[0])
    await engine.stop()


async def test_an_engine_dies_with_its_supervisor(make: Callable[..., Engine], pids: Path) -> None:
    """Killing the supervisor ends the engine, and a new pair is started."""
    engine = make()
    await engine.start()
    await until(lambda: len(processes(pids)) == 2)
    first, hidden = processes(pids)
    supervisor = psutil.Process(first).parent()
    assert supervisor is not None

    supervisor.kill()
    await until(lambda: engine.starts == 2 and engine.state is EngineState.READY)

    assert not alive(first)
    await engine.stop()
    psutil.Process(hidden).kill()


GUARD = """
import asyncio, signal, sys
from pathlib import Path
from guard.upstream.command import EngineSpec
from guard.upstream.engine import Engine

async def main():
    python, pids, log = sys.argv[1:]
    spec = EngineSpec("transformers", "m", python=python, env={"FAKE_PIDS": pids}, gpu=False)
    await Engine(spec, log=Path(log), poll_interval=0.02).start()
    print("ready", flush=True)
    await asyncio.sleep(600)

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_no_engine_outlives_the_guard(
    make: Callable[..., Engine], pids: Path, tmp_path: Path, number: int
) -> None:
    """However the guard ends, without a word even, the engine and its grandchild end too."""
    guard = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", GUARD, make().spec.python, str(pids), str(tmp_path / "log")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert guard.stdout is not None
    assert await guard.stdout.readline() == b"ready\n"
    await until(lambda: len(processes(pids)) == 2)

    guard.send_signal(number)
    await guard.wait()

    await until(lambda: not any(alive(pid) for pid in processes(pids)))
