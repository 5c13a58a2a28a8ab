from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from guard.audit.codec import record_line
from guard.audit.record import Outcome, Record
from guard.audit.spill import Spill
from guard.errors import AuditError
from tests.unit.audit.factory import make_record, make_records

LARGE = 1 << 20


def drain(spill: Spill, limit: int = 10) -> list[Record]:
    """Everything in the files, in the order of replay."""
    found: list[Record] = []
    while chunk := spill.chunk(limit):
        found += chunk.records
        spill.done(chunk)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the spill file lies."""
    return tmp_path / "var" / "spill.jsonl"


def test_records_come_back_in_order(path: Path) -> None:
    """What is appended is read oldest first, once; then the file is empty, and gone after the close."""
    spill = Spill(path, LARGE)
    batch = make_records(25)
    assert spill.append(batch[:20]) == 20
    assert drain(spill, limit=7) == batch[:20]
    assert (spill.size, path.stat().st_size) == (0, 0)
    assert spill.append(batch[20:]) == 5
    assert drain(spill) == batch[20:]
    spill.close()
    assert list(path.parent.iterdir()) == []


def test_an_unfinished_replay_is_repeated(path: Path) -> None:
    """A chunk that was read and not brought to the database is read again, also after a restart."""
    spill = Spill(path, LARGE)
    spill.append(make_records(4))
    assert spill.chunk(2) == spill.chunk(2)
    spill.close()
    again = Spill(path, LARGE)
    assert drain(again) == make_records(4)
    again.close()


def test_only_what_fits_is_taken(path: Path) -> None:
    """The bound holds to the byte; the first records that fit are stored, the number is told."""
    batch = make_records(10)
    room = sum(len(record_line(record)) for record in batch[:6])
    spill = Spill(path, room)
    assert spill.append(batch) == 6
    assert spill.size == path.stat().st_size == room
    assert spill.append(batch[6:]) == 0
    assert drain(spill) == batch[:6]
    assert spill.append(batch[6:]) == 4
    drain(spill)
    spill.close()


def test_a_line_cut_by_a_crash_is_dropped(path: Path) -> None:
    """A last line without its end was never acknowledged; what comes next does not stick to it."""
    path.parent.mkdir()
    lines = b"".join(map(record_line, make_records(2)))
    path.write_bytes(lines + record_line(make_record(7))[:-40])
    spill = Spill(path, LARGE)
    assert spill.size == len(lines)
    spill.append([make_record(8)])
    assert drain(spill) == [*make_records(2), make_record(8)]
    spill.close()


def test_a_line_that_is_no_record_is_told_apart(path: Path) -> None:
    """Damage costs the damaged lines alone."""
    path.parent.mkdir()
    good = make_records(2)
    path.write_bytes(record_line(good[0]) + b"{damaged\n\n" + record_line(good[1]))
    spill = Spill(path, LARGE)
    chunk = spill.chunk(10)
    assert chunk
    assert (list(chunk.records), chunk.unreadable) == (good, (b"{damaged\n", b"\n"))
    spill.reject(chunk.unreadable)
    spill.reject([b"another\n"])
    assert path.with_name("spill.rejected.jsonl").read_bytes() == b"{damaged\n\nanother\n"
    spill.done(chunk)
    spill.close()


def test_each_process_has_a_file_of_its_own(path: Path) -> None:
    """A second holder gets another file, and neither reads the other's records."""
    first, second = Spill(path, LARGE), Spill(path, LARGE)
    first.append([make_record(1)])
    second.append([make_record(2)])
    assert {file.name for file in path.parent.iterdir()} == {"spill.jsonl", "spill.1.jsonl"}
    assert drain(first) == [make_record(1)]
    assert drain(second) == [make_record(2)]
    first.close()
    second.close()


def test_files_of_dead_processes_are_taken_over(path: Path) -> None:
    """A start finds every file that nobody holds; a stream in it was interrupted with its process."""
    holders = [Spill(path, LARGE) for _ in range(3)]
    streaming = make_record(3, stream=True, outcome=Outcome.STREAMING)
    for number, holder in enumerate(holders[:2]):
        holder.append([make_record(number)])
    holders[2].append([streaming])
    holders[0].close()
    holders[2].close()
    spill = Spill(path, LARGE)
    interrupted = streaming._replace(outcome=Outcome.INTERRUPTED)
    assert spill.append([streaming]) == 1
    assert drain(spill) == [interrupted, make_record(0), streaming]
    assert {file.name for file in path.parent.iterdir()} == {"spill.jsonl", "spill.1.jsonl"}
    spill.close()
    assert drain(holders[1]) == [make_record(1)]
    holders[1].close()


def test_a_killed_process_lets_go_of_its_file(path: Path) -> None:
    """The lock ends with its holder, however that ended."""
    program = (
        "import sys; from pathlib import Path; from guard.audit.spill import Spill\n"
        "spill = Spill(Path(sys.argv[1]), 1 << 20); print('held', flush=True); input()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout
    assert child.stdout.readline() == b"held\n"
    beside = Spill(path, LARGE)
    beside.append([make_record()])
    assert path.with_name("spill.1.jsonl").stat().st_size > 0
    child.kill()
    child.communicate()
    after = Spill(path, LARGE)
    after.append([make_record()])
    assert path.stat().st_size > 0
    for spill in (beside, after):
        drain(spill)
        spill.close()


def test_a_file_removed_before_it_is_locked_is_not_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last holder may remove a file that another process has just opened; that one starts afresh."""
    lock = fcntl.flock

    def late(fd: int, operation: int) -> None:
        monkeypatch.undo()
        path.unlink()
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    spill = Spill(path, LARGE)
    spill.append([make_record()])
    assert path.read_bytes() == record_line(make_record())
    drain(spill)
    spill.close()


def test_the_file_is_for_its_owner_alone(path: Path) -> None:
    """Spilled conversations can be read by nobody else."""
    spill = Spill(path, LARGE)
    spill.append([make_record()])
    spill.reject([b"x\n"])
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    drain(spill)
    spill.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """The reason is given where the spill file cannot be."""
    (tmp_path / "var").write_text("a file")
    with pytest.raises(AuditError, match=r"spill\.jsonl: cannot be written"):
        Spill(tmp_path / "var" / "spill.jsonl", LARGE)


def test_a_full_disk_keeps_what_was_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk does not take a batch, nothing of it stays in the file."""
    spill = Spill(path, LARGE)
    spill.append([make_record(1)])
    write = os.pwrite

    def half(fd: int, data: memoryview, offset: int) -> int:
        if offset > path.stat().st_size - 1 and len(data) < 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data[: len(data) - 50], offset)

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(AuditError, match="No space left"):
        spill.append([make_record(2)])
    monkeypatch.undo()
    spill.append([make_record(3)])
    assert drain(spill) == [make_record(1), make_record(3)]
    spill.close()


def test_the_records_that_wait_are_counted(path: Path) -> None:
    """Lines that are not replayed are counted, those of dead processes and unreadable ones too."""
    path.parent.mkdir()
    path.write_bytes(b"no record\n" + record_line(make_record(1)) + b"cut sho")
    path.with_name("spill.1.jsonl").write_bytes(record_line(make_record(2)))
    spill = Spill(path, LARGE)
    assert spill.records == 3
    spill.append(make_records(4))
    assert spill.records == 7
    chunk = spill.chunk(2)
    assert chunk
    spill.done(chunk)
    assert spill.records == 6
    drain(spill)
    assert spill.records == 0
    spill.close()
