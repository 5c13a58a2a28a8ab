from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from guard.upstream import supervise


def start(log: Path, *command: str, options: tuple[str, ...] = ()) -> tuple[subprocess.Popen[bytes], int]:
    """A supervisor around a command, and the write end of its pipe."""
    read, write = os.pipe()
    process = subprocess.Popen(
        [
            *(sys.executable, "-I", "-S", supervise.__file__),
            *("--pipe", str(read), "--parent", str(os.getpid()), "--log", str(log)),
            *(*options, "--", *command),
        ],
        pass_fds=(read,),
        start_new_session=True,
    )
    os.close(read)
    return process, write


def wait_for_up(log: Path) -> None:
    """Wait until the command has set its traps and says so."""
    while not (log.exists() and "up" in log.read_text()):
        time.sleep(0.01)


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_the_commands_exit_code_is_passed_on(tmp_path: Path, script: str, code: int) -> None:
    """The supervisor ends when its command ends, with its code, a signal as shells write it."""
    process, write = start(tmp_path / "log", "sh", "-c", script)

    assert process.wait(30) == code
    os.close(write)


def test_output_goes_to_the_log(tmp_path: Path) -> None:
    """Both output streams are appended to the log, the last bytes before the end included."""
    log = tmp_path / "log"
    log.write_text("earlier\n")
    process, write = start(log, "sh", "-c", "echo out; echo err >&2")
    process.wait(30)
    os.close(write)

    assert log.read_text() == "earlier\nout\nerr\n"


def test_the_log_is_bounded(tmp_path: Path) -> None:
    """At its limit the log begins anew and one old part is kept."""
    log = tmp_path / "log"
    script = "for i in 1 2 3 4 5 6; do printf '%0400d' $i; sleep 0.02; done"
    process, write = start(log, "sh", "-c", script, options=("--log-bytes", "1000"))
    process.wait(30)
    os.close(write)

    assert log.read_text().endswith("6")
    assert log.stat().st_size <= 1000
    assert {path.name for path in tmp_path.iterdir()} == {"log", "log.1"}


def test_closing_the_pipe_ends_the_command(tmp_path: Path) -> None:
    """The end of the pipe is the order to stop; a command that obeys SIGTERM may clean up."""
    log = tmp_path / "log"
    script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    process, write = start(log, "sh", "-c", script)
    wait_for_up(log)
    os.close(write)

    assert process.wait(30) == 0
    assert log.read_text().endswith("bye\n")


def test_a_stubborn_command_is_killed(tmp_path: Path) -> None:
    """A command that ignores SIGTERM is killed after the grace."""
    log = tmp_path / "log"
    script = "trap '' TERM; echo up; while :; do sleep 0.05; done"
    process, write = start(log, "sh", "-c", script, options=("--grace", "0.1"))
    wait_for_up(log)
    process.send_signal(signal.SIGTERM)

    assert process.wait(30) == 137
    os.close(write)


def test_a_guard_that_died_meanwhile_starts_nothing(tmp_path: Path) -> None:
    """A supervisor whose parent is already another ends at once."""
    read, write = os.pipe()
    log = tmp_path / "log"
    arguments = ["--pipe", str(read), "--parent", "1", "--log", str(log), "--", "touch", str(log)]
    done = subprocess.run(
        [sys.executable, "-I", "-S", supervise.__file__, *arguments],
        pass_fds=(read,),
        start_new_session=True,
        check=False,
    )
    os.close(read)
    os.close(write)

    assert (done.returncode, log.exists()) == (0, False)
