"""A real PostgreSQL server for tests, on a Unix socket in a folder of its own.

The fixture ``postgres`` starts one server a session (a worker, under xdist), and ``postgres_url`` gives each
test an empty schema on it. Both skip where PostgreSQL is not installed.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest


class PostgresServer:
    """Starts, stops, and starts again on the same data."""

    def __init__(self, folder: Path, programs: Path, *, durable: bool = False) -> None:
        """Set up a cluster in a folder.

        Args:
            folder: Empty; its path must be short, for it holds the socket.
            programs: Where ``initdb`` and ``pg_ctl`` are.
            durable: Whether data survives a power cut; a crash of the server it survives anyway.
        """
        self._folder = folder
        self._programs = programs
        self._data = folder / "data"
        self._fsync = "on" if durable else "off"
        self._as_user: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            user = pwd.getpwnam("nobody")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        self._run("initdb", "-D", self._data, "-U", "guard", "-A", "trust", "-E", "UTF8", "--no-sync")

    def start(self) -> None:
        """Start and wait until it answers."""
        options = f"-k {self._folder} -c listen_addresses='' -c max_connections=100 -c fsync={self._fsync}"
        log = self._folder / "log"
        self._run("pg_ctl", "-D", self._data, "-w", "-o", options, "-l", log, "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop: ``immediate`` is a crash, ``fast`` an orderly end."""
        self._run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def pause(self, paused: bool) -> None:
        """Stop the server in its tracks, or let it go on: it takes connections and says nothing."""
        postmaster = (self._data / "postmaster.pid").read_text().split()[0]
        signal = "-STOP" if paused else "-CONT"
        children = subprocess.run(["pgrep", "-P", postmaster], capture_output=True, text=True, check=False)
        subprocess.run(["kill", signal, postmaster, *children.stdout.split()], check=True)

    @property
    def url(self) -> str:
        """The URL of its one database, without a schema of its own."""
        return f"postgresql://guard@/postgres?host={self._folder}"

    def create_schema(self) -> str:
        """Make an empty schema; the URL under which it is as good as an empty database."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.sql(f"CREATE SCHEMA {name}")
        return f"{self.url}&options=-csearch_path%3D{name}"

    def sql(self, statement: str, url: str = "") -> str:
        """Run a statement through psql; what it prints, a line a row."""
        return self._run("psql", "-XAtq", "-c", statement, url or self.url)

    def _run(self, program: str, *arguments: str | Path) -> str:
        # The server inherits its parent's output and would hold a pipe open, hence the file.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [*self._as_user, self._programs / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                check=False,
            )
            output.seek(0)
            said = output.read()
        if done.returncode:
            raise RuntimeError(f"{program} failed: {said}")
        return said


def postgres_programs() -> Path | None:
    """The newest installed version's programs; None where there is none."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]), reverse=True
    )
    if found:
        return found[0].parent
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server; one that a test stops must be started again by that test."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (initdb not found)")
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as folder:
        server = PostgresServer(Path(folder), programs)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """The URL of an empty schema."""
    return postgres.create_schema()
