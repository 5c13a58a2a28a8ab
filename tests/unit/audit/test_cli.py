from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from guard.audit.cli import log_app
from guard.audit.record import Outcome
from guard.audit.store import AuditStore
from guard.policy.model import Ruling
from tests.unit.audit.factory import make_policy, make_record

PROGRAM = "import typer; from guard.audit.cli import log_app; log_app()"


@pytest.fixture
def database(tmp_path: Path) -> str:
    """A database with three records and their policy."""

    async def fill() -> str:
        store = await AuditStore.open(tmp_path / "audit.db")
        policy = make_policy()
        await store.save_policy(policy)
        records = [make_record(1), make_record(2, verdict=Ruling.REFUSE), make_record(3, outcome=Outcome.CUT)]
        await store.write([record._replace(policy_digest=policy.digest) for record in records])
        await store.close()
        return store.location

    return asyncio.run(fill())


def guard_log(*arguments: str) -> Result:
    """Run the commands as ``guard log`` does."""
    app = typer.Typer()
    app.add_typer(log_app, name="log")
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["log", *arguments])


def test_records_are_listed_newest_first(database: str) -> None:
    """Without options the newest are listed, a line each."""
    result = guard_log("--database", database)
    assert result.exit_code == 0
    assert [line.split("\t")[1] for line in result.output.splitlines()] == [
        "req-000003-0",
        "req-000002-0",
        "req-000001-0",
    ]


def test_json_is_one_object_a_line(database: str) -> None:
    """``--json`` prints what other programs read."""
    lines = guard_log("--json", "--limit", "2", "--database", database).output.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["req-000003-0", "req-000002-0"]


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        (["--verdict", "refuse"], [2]),
        (["--outcome", "cut"], [3]),
        (["--clause", "SH1", "--limit", "1"], [3]),
        (["--clause", "XX1"], []),
        (["--citation", "verified"], [3, 2, 1]),
        (["--finding", "no_verdict"], []),
        (["--since", "2026-03-01T12:00:02", "--until", "2026-03-01T12:00:03"], [2]),
        (["--since", "1s"], []),
        (["--tenant", "team-a", "--policy", "default", "--request", "req-000001"], [1]),
    ],
)
def test_options_are_filters(database: str, options: list[str], numbers: list[int]) -> None:
    """Every option narrows the list."""
    result = guard_log("--json", "--database", database, *options)
    found = [json.loads(line)["id"] for line in result.output.splitlines()]
    assert found == [f"req-00000{number}-0" for number in numbers]


def test_the_database_comes_from_the_environment(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``GUARD_DATABASE`` serves where the option is left out."""
    monkeypatch.setenv("GUARD_DATABASE", database)
    assert len(guard_log("--json").output.splitlines()) == 3
    assert guard_log("show", "req-000001").exit_code == 0


def test_a_record_is_shown_with_its_clauses(database: str) -> None:
    """``show`` takes a beginning, and quotes the clauses as they were."""
    for arguments in (
        ["show", "req-000001", "--database", database],
        ["--database", database, "show", "req-000001"],
    ):
        result = guard_log(*arguments)
        assert result.exit_code == 0
        assert "Never give a method of self-harm." in result.output
        assert "\x1b" not in result.output
    assert json.loads(guard_log("show", "req-000001", "--json", "--database", database).output)["choice"] == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--database", "{}/missing.db"], "missing.db: no such database"),
        (["show", "req", "--database", "{}/audit.db"], "several records"),
        (["show", "x\x1b[2J", "--database", "{}/audit.db"], "no record"),
        (["--database", "mysql://db/x"], "use a path or postgresql://"),
        (["--database", "postgresql://u:secret@127.0.0.1:1/x"], "postgresql://127.0.0.1:1/x"),
        (["--database", "{}/text.db"], "not a database"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    database: str, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    """One line on standard error, exit status 1, no traceback, no secret, no escape sequence."""
    (tmp_path / "text.db").write_text("no database at all, only some text that is long enough" * 20)
    result = guard_log(*(argument.format(tmp_path) for argument in arguments))
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("guard log: ")
    assert reason in result.stderr
    assert "secret" not in result.stderr
    assert "\x1b" not in result.stderr
    assert result.stdout == ""


def test_old_records_can_be_deleted(database: str) -> None:
    """``prune`` deletes what began before a time, and says how much."""
    result = guard_log("prune", "--before", "2026-03-01T12:00:03", "--database", database)
    assert (result.exit_code, result.output) == (0, "2 records deleted\n")
    lines = guard_log("--json", "--database", database).output.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["req-000003-0"]
    assert "Never give a method" in guard_log("show", "req-000003", "--database", database).output


def test_pruning_makes_no_database(tmp_path: Path) -> None:
    """A database that is not there is an error, and is not made."""
    result = guard_log("prune", "--before", "1d", "--database", str(tmp_path / "missing.db"))
    assert result.exit_code == 1
    assert "no such database" in result.stderr
    assert not (tmp_path / "missing.db").exists()


@pytest.mark.parametrize("option", ["--since", "--until"])
def test_a_time_that_is_none_is_a_usage_error(database: str, option: str) -> None:
    """The option is named, and the exit status is that of a wrong command line."""
    result = guard_log(option, "soon", "--database", database)
    assert result.exit_code == 2
    assert option in result.stderr


def test_a_reader_that_has_seen_enough_is_no_error(database: str) -> None:
    """``guard log | head -1`` says nothing on standard error."""
    program = PROGRAM.replace("log_app()", "sys.argv += ['--json'] ; log_app()").replace(
        "import typer", "import sys"
    )
    environment = os.environ | {"GUARD_DATABASE": database}

    async def many() -> None:
        store = await AuditStore.open(database)
        await store.write([make_record(number, answer="long " * 3000) for number in range(10, 40)])
        await store.close()

    asyncio.run(many())
    child = subprocess.Popen(
        [sys.executable, "-c", program, "--limit", "40"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert child.stdout
    assert child.stdout.readline().startswith(b'{"id":"req-000039-0"')
    child.stdout.close()
    assert child.stderr
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait() == 0


def test_a_terminal_gets_a_table(database: str) -> None:
    """On a terminal, records come as a coloured table with a legend."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "--database", database],
        stdout=theirs,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "160"},
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # the terminal is closed at the other end
        pass
    os.close(ours)
    assert child.wait() == 0
    assert "✓ verified" in shown.decode()
    assert "\x1b[" in shown.decode()
    assert "req-000003-0" in shown.decode()
