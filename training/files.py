"""Files of a run: JSONL read with line numbers, written whole or not at all, and stage manifests.

A stage writes its output beside the final name and renames it, so that a file that exists is
complete. Its manifest names the digests of what it read, so that ``run`` knows what is up to date.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import os
import time
import tomllib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from training.errors import DataError

R = TypeVar("R", bound=BaseModel)


@functools.cache
def packaged(name: str) -> str:
    """A text that stands beside this code: a prompt, a page."""
    return resources.files("training").joinpath(name).read_text(encoding="utf-8")


def read_toml(path: Path, kind: type[R]) -> R:
    """A TOML file of one form.

    Raises:
        DataError: It is absent, no TOML, or not of this form.
    """
    try:
        return kind.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise DataError(f"{path}: {error}") from error


def read_rows(path: Path, kind: type[R]) -> list[R]:
    """Every row of a JSONL file.

    Raises:
        DataError: The file is absent or empty, or a line is not such a row (all are named).
    """
    rows: list[R] = []
    problems: list[str] = []
    for number, raw in read_lines(path):
        try:
            rows.append(kind.model_validate_json(raw))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            problems.append(f"{path}:{number}: {where}: {first['msg']}")
    if problems:
        raise DataError("\n".join(problems[:20]))
    return rows


def read_objects(path: Path) -> list[dict[str, Any]]:
    """Every JSON object of a JSONL file, unchecked otherwise.

    Raises:
        DataError: The file is absent or empty, or a line is not a JSON object.
    """
    objects: list[dict[str, Any]] = []
    for number, raw in read_lines(path):
        try:
            value = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not JSON: {error}") from error
        if not isinstance(value, dict):
            raise DataError(f"{path}:{number}: not a JSON object")
        objects.append(value)
    return objects


def read_lines(path: Path) -> list[tuple[int, bytes]]:
    """Non-blank lines with their 1-based numbers.

    Raises:
        DataError: The file is absent, or holds none.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); did the stage before it run?") from error
    lines = [(n, line) for n, line in enumerate(data.splitlines(), start=1) if line.strip()]
    if not lines:
        raise DataError(f"{path}: is empty")
    return lines


def read_table(path: Path) -> list[Any]:
    """Rows of a CSV, JSON or JSONL file.

    Raises:
        DataError: It is of another kind or cannot be parsed.
    """
    try:
        if path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as lines:
                return list(csv.DictReader(lines))
        data = path.read_bytes()
        if path.suffix == ".jsonl":
            return [orjson.loads(line) for line in data.splitlines() if line.strip()]
        if path.suffix == ".json":
            value = orjson.loads(data)
            if isinstance(value, list):
                return value
    except (orjson.JSONDecodeError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be parsed: {error}") from error
    raise DataError(f"{path}: must be .csv, .jsonl, or .json holding a list")


def write_rows(path: Path, rows: Iterable[BaseModel]) -> None:
    """Write a JSONL file whole."""
    write_whole(path, b"".join(row.model_dump_json(exclude_defaults=True).encode() + b"\n" for row in rows))


def write_json(path: Path, value: object) -> None:
    """Write an indented JSON file whole."""
    write_whole(path, orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file in one step; a crash leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    beside.replace(path)


def file_digest(path: Path) -> str:
    """Hex sha256 of a file, or of every file under a folder in name order."""
    hasher = hashlib.sha256()
    for part in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if part.is_file():
            hasher.update(part.name.encode() + b"\0")
            with part.open("rb") as data:
                while block := data.read(1 << 20):
                    hasher.update(block)
    return hasher.hexdigest()


def manifest_path(run: Path, stage: str) -> Path:
    """Where a stage's manifest stands."""
    return run / "manifests" / f"{stage}.json"


def write_manifest(run: Path, stage: str, *, key: str, started: float, facts: dict[str, Any]) -> None:
    """Record what a finished stage read, did and dropped.

    Args:
        run: The run's folder.
        stage: The stage's name.
        key: Digest of everything the stage's output depends on; the same key means up to date.
        started: ``time.time()`` at the stage's start.
        facts: Inputs' digests, model, seed, counts, reasons for every drop.
    """
    seconds = round(time.time() - started, 1)
    finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    value = {"stage": stage, "key": key, "finished": finished, "seconds": seconds, **facts}
    write_json(manifest_path(run, stage), value)


def manifest_key(run: Path, stage: str) -> str | None:
    """The key of the stage's last finished run; None where it never finished."""
    path = manifest_path(run, stage)
    if not path.is_file():
        return None
    try:
        key = orjson.loads(path.read_bytes()).get("key")
    except (orjson.JSONDecodeError, AttributeError):
        return None
    return key if isinstance(key, str) else None
