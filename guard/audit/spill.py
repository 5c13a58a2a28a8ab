"""Records on the local disk while the database does not take them: JSON lines, bounded, replayed later.

Each process has a file of its own, held with a lock: ``audit-spill.jsonl``, or ``audit-spill.1.jsonl``
where another process of this host has that. Files of dead processes are taken over at start and
replayed too. A crash in the middle of a replay repeats it, which the store's rewrite makes harmless.

Everything here blocks; the writer calls it from one thread.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from guard.audit.codec import record_line, record_of_line
from guard.audit.record import Outcome, Record
from guard.errors import AuditError

REJECTED = "rejected"
"""``audit-spill.rejected.jsonl`` keeps lines that the database will never take."""

CHUNK_BYTES = 8 * 1024 * 1024
"""About as much is read for one chunk at most, whatever the number of records."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some lines of a file, oldest first."""

    file: SpillFile
    end: int
    """Where the next chunk begins."""
    records: tuple[Record, ...]
    unreadable: tuple[bytes, ...]
    """Lines that are no records."""


class SpillFile:
    """One file and the lock on it."""

    def __init__(self, path: Path, fd: int) -> None:
        """Take over an open, locked file; a last line cut short by a crash was never acknowledged."""
        self.path = path
        self._fd = fd
        content = os.fstat(fd).st_size
        self.size = self._whole_lines(content)
        if self.size < content:
            os.ftruncate(fd, self.size)
        self._inherited = self.size
        """Up to here the lines are of a dead process."""
        self._replayed = 0
        self.records = self._count()
        """Lines that are not replayed."""

    @classmethod
    def take(cls, path: Path, *, create: bool) -> SpillFile | None:
        """Open and lock a file; None where another process has it, or there is none to open."""
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        while True:
            try:
                fd = os.open(path, flags, 0o600)
            except FileNotFoundError:
                return None
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Its last holder may have removed it between the opening and the locking.
                if _is_at(fd, path):
                    return cls(path, fd)
            except BlockingIOError:
                os.close(fd)
                return None
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def append(self, lines: Sequence[bytes]) -> None:
        """Add whole lines; they are on the disk when this returns."""
        data = b"".join(lines)
        try:
            view = memoryview(data)
            offset = self.size
            while view:
                done = os.pwrite(self._fd, view, offset)
                view, offset = view[done:], offset + done
            os.fdatasync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self.size)
            raise
        self.size += len(data)
        self.records += len(lines)

    def chunk(self, limit: int) -> Chunk | None:
        """The oldest lines that are not replayed; None where there are none."""
        records: list[Record] = []
        unreadable: list[bytes] = []
        end = self._replayed
        for line in self._lines(end):
            try:
                record = record_of_line(line)
            except ValueError:
                unreadable.append(line)
            else:
                dead = end < self._inherited and record.outcome is Outcome.STREAMING
                records.append(record._replace(outcome=Outcome.INTERRUPTED) if dead else record)
            end += len(line)
            if len(records) + len(unreadable) == limit or end - self._replayed > CHUNK_BYTES:
                break
        return Chunk(self, end, tuple(records), tuple(unreadable)) if end > self._replayed else None

    def forget(self, chunk: Chunk) -> None:
        """The chunk is replayed; a file without other lines is emptied."""
        self._replayed = chunk.end
        self.records -= len(chunk.records) + len(chunk.unreadable)
        if chunk.end == self.size:
            os.ftruncate(self._fd, 0)
            self.size = self._inherited = self._replayed = 0

    def close(self) -> None:
        """Remove the file if it is empty, and let go of the lock."""
        if self.size == 0:
            self.path.unlink(missing_ok=True)
        os.close(self._fd)

    def _lines(self, offset: int) -> Iterator[bytes]:
        held = b""
        while offset < self.size:
            data = os.pread(self._fd, min(1 << 20, self.size - offset), offset)
            if not data:
                break
            offset += len(data)
            *lines, held = (held + data).split(b"\n")
            for line in lines:
                yield line + b"\n"

    def _count(self) -> int:
        """How many lines there are."""
        return sum(
            os.pread(self._fd, 1 << 20, offset).count(b"\n") for offset in range(0, self.size, 1 << 20)
        )

    def _whole_lines(self, size: int) -> int:
        """Where the last line that is complete ends."""
        end = size
        while end:
            start = max(0, end - (1 << 20))
            at = os.pread(self._fd, end - start, start).rfind(b"\n")
            if at != -1:
                return start + at + 1
            end = start
        return 0


class Spill:
    """This process's file, and those it took over from dead ones."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Take a file named after ``path``, and the files that nobody holds.

        Raises:
            AuditError: The folder cannot be written.
        """
        self._path = path
        self._max_bytes = max_bytes
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._own = self._take_own()
            self._others = list(self._take_others())
            _sync_folder(path.parent)
        except OSError as error:
            raise AuditError(f"{path}: cannot be written: {error.strerror}") from error

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return self._own.size + sum(file.size for file in self._others)

    @property
    def records(self) -> int:
        """Lines of all files that are not replayed."""
        return self._own.records + sum(file.records for file in self._others)

    def append(self, records: Sequence[Record]) -> int:
        """Store the first records that fit; how many did.

        Raises:
            AuditError: The disk does not take them.
        """
        room = self._max_bytes - self.size
        lines: list[bytes] = []
        for record in records:
            line = record_line(record)
            room -= len(line)
            if room < 0:
                break
            lines.append(line)
        if lines:
            try:
                self._own.append(lines)
            except OSError as error:
                raise AuditError(f"{self._own.path}: cannot be written: {error.strerror}") from error
        return len(lines)

    def chunk(self, limit: int) -> Chunk | None:
        """The next records to replay, those of dead processes first."""
        for file in [*self._others, self._own]:
            if chunk := file.chunk(limit):
                return chunk
            if file is not self._own:
                self._others.remove(file)
                file.close()
        return None

    def done(self, chunk: Chunk) -> None:
        """The chunk's records are in the database."""
        chunk.file.forget(chunk)

    def reject(self, lines: Sequence[bytes]) -> None:
        """Keep lines that the database will never take, for a person to look at."""
        path = self._path.with_name(f"{self._path.stem}.{REJECTED}{self._path.suffix}")
        with open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab") as file:
            file.write(b"".join(lines))
            file.flush()
            os.fdatasync(file.fileno())

    def close(self) -> None:
        """Let go of all files; those with records in them stay for the next start."""
        for file in (self._own, *self._others):
            file.close()

    def _take_own(self) -> SpillFile:
        number = 0
        while True:
            file = SpillFile.take(self._numbered(number), create=True)
            if file:
                return file
            number += 1

    def _take_others(self) -> Iterator[SpillFile]:
        for path in sorted(self._path.parent.glob(f"{self._path.stem}.*{self._path.suffix}")):
            middle = path.name.removeprefix(f"{self._path.stem}.").removesuffix(self._path.suffix)
            if middle.isdecimal() and path != self._own.path and (file := SpillFile.take(path, create=False)):
                yield file

    def _numbered(self, number: int) -> Path:
        if number == 0:
            return self._path
        return self._path.with_name(f"{self._path.stem}.{number}{self._path.suffix}")


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
