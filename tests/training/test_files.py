from pathlib import Path

import pytest

from training.errors import DataError
from training.files import file_digest, manifest_key, read_rows, write_manifest, write_rows, write_whole
from training.records import Prompt, prompt_id, user


def row(text: str) -> Prompt:
    """A prompt."""
    return Prompt(id=prompt_id(user(text)), messages=user(text), source="test")


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    """Writing and reading is the identity."""
    rows = [row("One\nline"), row("Zwölf „Worte“")]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert read_rows(tmp_path / "rows.jsonl", Prompt) == rows


def test_bad_lines_are_named(tmp_path: Path) -> None:
    """Every line that is not a row is reported with its number."""
    path = tmp_path / "rows.jsonl"
    path.write_text(row("good").model_dump_json() + '\n{"id": "x"}\nnot json\n')
    with pytest.raises(DataError, match=r"(?s)rows.jsonl:2: messages.*rows.jsonl:3"):
        read_rows(path, Prompt)


@pytest.mark.parametrize("text", [None, "", "\n \n"])
def test_absent_and_empty_files_are_errors(tmp_path: Path, text: str | None) -> None:
    """A stage never goes on with nothing."""
    path = tmp_path / "rows.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=r"cannot be read|is empty"):
        read_rows(path, Prompt)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """Nothing but the new file is left behind."""
    write_whole(tmp_path / "deep" / "file", b"old")
    write_whole(tmp_path / "deep" / "file", b"new")
    assert [(p.name, p.read_bytes()) for p in (tmp_path / "deep").iterdir()] == [("file", b"new")]


def test_manifest_names_its_key(tmp_path: Path) -> None:
    """The key of a finished stage can be asked for; without a manifest there is none."""
    assert manifest_key(tmp_path, "prompts") is None
    write_manifest(tmp_path, "prompts", key="abc", started=0.0, facts={"rows": 3})
    assert manifest_key(tmp_path, "prompts") == "abc"


def test_digest_of_a_folder_changes_with_its_files(tmp_path: Path) -> None:
    """Content and names count."""
    (tmp_path / "a").write_text("1")
    before = file_digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert file_digest(tmp_path) != before
