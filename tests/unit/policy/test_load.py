from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.errors import PolicyError
from guard.policy import load
from guard.policy.load import (
    MAX_FILE_BYTES,
    SectionCache,
    default_policy_folder,
    load_policy,
    parse_policy,
    read_policy_files,
)
from guard.policy.section import ParsedSection, parse_section
from tests.unit.policy.small import FILES, GARDENS, KITCHENS, MANIFEST, problems_of, small_policy, write


def problems_in(folder: Path) -> list[str]:
    """Every problem of a folder, with its path left out."""
    with pytest.raises(PolicyError) as caught:
        load_policy(folder)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def test_a_folder_is_read_as_its_files_say(tmp_path: Path) -> None:
    """Loading a folder gives what parsing its texts gives."""
    assert load_policy(write(tmp_path)) == small_policy()


def test_the_default_policy_stands_in_the_repository() -> None:
    """Without a folder the repository's own policy is meant."""
    assert default_policy_folder() == Path(__file__).parents[3] / "specs" / "default"


def test_an_installed_package_has_its_own_copy_of_the_default_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no repository lies around the package, the copy in the package is meant."""
    monkeypatch.setattr(load, "__file__", str(tmp_path / "guard" / "policy" / "load.py"))

    assert default_policy_folder() == tmp_path / "guard" / "specs" / "default"


def test_a_folder_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    """The path is named."""
    with pytest.raises(PolicyError, match=r"attic: no such policy folder"):
        load_policy(tmp_path / "attic")


def test_a_folder_that_cannot_be_looked_at_is_a_problem(tmp_path: Path) -> None:
    """What the system says of the path is told, as for a folder that belongs to somebody else."""
    with pytest.raises(PolicyError, match=r"a: cannot be read: File name too long"):
        load_policy(tmp_path / ("a" * 300))


def test_a_file_is_no_policy_folder(tmp_path: Path) -> None:
    """A path to the manifest itself is not taken for the folder."""
    with pytest.raises(PolicyError, match=r"policy\.yaml: no such policy folder"):
        load_policy(write(tmp_path) / "policy.yaml")


def test_a_folder_without_manifest_is_a_problem(tmp_path: Path) -> None:
    """Sections alone are no policy."""
    write(tmp_path, {"gardens.md": GARDENS})

    with pytest.raises(PolicyError, match=r"holds no policy\.yaml"):
        load_policy(tmp_path)


def test_problems_name_the_file_in_the_folder(tmp_path: Path) -> None:
    """The path can be clicked or opened as it is printed."""
    write(tmp_path, {**FILES, "gardens.md": GARDENS.replace("## Why", "## Reasons")})

    with pytest.raises(PolicyError) as caught:
        load_policy(tmp_path)

    assert [(problem.file, problem.line) for problem in caught.value.problems] == [
        (str(tmp_path / "gardens.md"), 0),
        (str(tmp_path / "gardens.md"), 15),
    ]


def test_files_that_cannot_be_read_are_told_together(tmp_path: Path) -> None:
    """Bytes that are no text with their line, folders, pipes, dangling links and endless files by name."""
    write(tmp_path)
    (tmp_path / "gardens.md").write_bytes(b"# Gardens\n\nGr\xf6w things.\n")
    (tmp_path / "kitchens.md").unlink()
    (tmp_path / "kitchens.md").mkdir()
    (tmp_path / "attic.md").symlink_to(tmp_path / "gone.md")
    (tmp_path / "cellar.md").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    os.mkfifo(tmp_path / "drain.md")

    assert problems_in(tmp_path) == [
        "attic.md: cannot be read: No such file or directory",
        "cellar.md: is larger than 1,000,000 bytes; split the section",
        "drain.md: is not a regular file",
        "gardens.md:3: is not UTF-8 text",
        "kitchens.md: is not a regular file",
    ]


def test_a_manifest_that_is_not_utf8_is_a_problem(tmp_path: Path) -> None:
    """UTF-16, as some editors write, is told apart from a broken policy."""
    write(tmp_path)
    (tmp_path / "policy.yaml").write_text(MANIFEST, encoding="utf-16")

    assert problems_in(tmp_path) == ["policy.yaml:1: is not UTF-8 text"]


def test_files_beside_the_sections_are_left_out(tmp_path: Path) -> None:
    """A README, editors' locks and backups, and other kinds of file are no sections."""
    write(tmp_path)
    write(
        tmp_path,
        {
            "README.md": "# About",
            ".#gardens.md": "",
            "._gardens.md": "\0",
            "gardens.md~": "",
            "notes.txt": "",
        },
    )
    (tmp_path / "drafts").mkdir()

    assert set(read_policy_files(tmp_path)) == set(FILES)


@pytest.mark.parametrize(
    "form",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
        lambda text: text.replace("\n\n", "\n\n\n") + "\n\n",
    ],
    ids=["byte order mark", "CRLF", "no last newline", "blank lines"],
)
def test_a_file_saved_by_another_editor_says_the_same(tmp_path: Path, form: Callable[[str], str]) -> None:
    """Byte order marks and line ends do not change a digest."""
    for name, text in FILES.items():
        (tmp_path / name).write_bytes(form(text).encode())

    assert load_policy(tmp_path).digest == small_policy().digest


def config_map(folder: Path, version: str, files: dict[str, str]) -> None:
    """Write the files as the kubelet mounts a ConfigMap, then turn its ``..data`` link to them."""
    write(folder / f"..{version}", files)
    (folder / "..data_tmp").symlink_to(f"..{version}")
    (folder / "..data_tmp").rename(folder / "..data")
    for name in files:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")


def test_a_mounted_config_map_is_read(tmp_path: Path) -> None:
    """Files are links into a hidden folder, and problems name the links."""
    config_map(tmp_path, "1", FILES)

    assert load_policy(tmp_path) == small_policy()

    config_map(tmp_path, "2", {**FILES, "gardens.md": GARDENS.replace("## Why", "## Reasons")})
    assert problems_in(tmp_path) == [
        "gardens.md: part '## Why' is missing or empty",
        "gardens.md:15: unknown heading 'Reasons'; use Definitions, Clauses, Why, Examples, Safe completion",
    ]


def test_a_config_map_that_is_swapped_while_it_is_read_gives_one_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file of the new version gets among those of the old one."""
    config_map(tmp_path, "1", FILES)
    newer = {name: text.replace("things", "all things") for name, text in FILES.items()}
    read = Path.read_bytes

    def swapping(path: Path) -> bytes:
        data = read(path)
        if path.name == "gardens.md" and "..1" in path.parts:
            config_map(tmp_path, "2", newer)
        return data

    monkeypatch.setattr(Path, "read_bytes", swapping)

    assert read_policy_files(tmp_path) == FILES
    assert read_policy_files(tmp_path) == newer


def test_a_linked_folder_is_read(tmp_path: Path) -> None:
    """A release link to a folder serves as the folder."""
    write(tmp_path / "1")
    (tmp_path / "current").symlink_to("1")

    assert load_policy(tmp_path / "current") == small_policy()


def test_clause_ids_are_unique_over_all_files() -> None:
    """The second place is named with the first."""
    kitchens = KITCHENS.replace("KI", "GA")

    assert problems_of({**FILES, "kitchens.md": kitchens}) == [
        "kitchens.md: prefix GA belongs to gardens.md",
        "kitchens.md:11: clause GA1 is already at gardens.md:11",
        "kitchens.md:12: clause GA2 is already at gardens.md:12",
    ]


def test_a_section_has_one_prefix() -> None:
    """Otherwise nobody can tell from a citation which section it means."""
    kitchens = KITCHENS.replace("KI3", "KT3")

    assert problems_of({**FILES, "kitchens.md": kitchens}) == [
        "kitchens.md: clause ids have several prefixes: KI, KT"
    ]


def test_an_unchanged_section_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload costs what was edited, and gives what a fresh load gives."""
    parsed: list[str] = []

    def counting(section_id: str, text: str) -> ParsedSection:
        parsed.append(section_id)
        return parse_section(section_id, text)

    monkeypatch.setattr(load, "parse_section", counting)
    cache = SectionCache()
    edited = {**FILES, "gardens.md": GARDENS.replace("prune", "graft")}
    first = parse_policy(FILES, cache=cache)
    second = parse_policy(edited, cache=cache)
    third = parse_policy(edited, cache=cache)

    assert parsed == ["gardens", "kitchens", "gardens"]
    assert first == small_policy()
    assert second == third == small_policy(edited)
    assert second.section["kitchens"] is first.section["kitchens"]


def test_the_cache_keeps_what_was_wrong_with_a_section() -> None:
    """A section that was not mended is still refused, and one that was is not."""
    cache = SectionCache()
    broken = {**FILES, "gardens.md": GARDENS.replace("## Why", "## Reasons")}
    for _ in range(2):
        with pytest.raises(PolicyError, match="Reasons"):
            parse_policy(broken, cache=cache)

    assert parse_policy(FILES, cache=cache) == small_policy()


def test_the_cache_forgets_sections_that_are_gone() -> None:
    """A removed file takes its parsed section with it."""
    cache = SectionCache()
    parse_policy(FILES, cache=cache)

    assert set(cache.parse({"gardens": GARDENS})) == {"gardens"}
    assert cache.parse({}) == {}


SECTION_TEXTS = st.sampled_from([GARDENS, GARDENS.replace("Grow", "Raise"), "# Broken", "", "## Why\n\nx\n"])


@given(
    st.lists(st.dictionaries(st.sampled_from(["gardens", "kitchens", "attic"]), SECTION_TEXTS), max_size=6)
)
def test_the_cache_gives_what_a_fresh_parse_gives(loads: list[dict[str, str]]) -> None:
    """Whatever sequence of edits led here."""
    cache = SectionCache()
    for texts in loads:
        fresh = {section_id: parse_section(section_id, text) for section_id, text in texts.items()}

        assert cache.parse(texts) == fresh


def test_the_order_of_files_does_not_matter(tmp_path: Path) -> None:
    """Sections come in the manifest's order."""
    backwards = dict(reversed(FILES.items()))

    assert small_policy(backwards) == small_policy()
    assert [section.id for section in small_policy(backwards).sections] == ["gardens", "kitchens"]


def test_a_policy_of_the_largest_allowed_file_loads(tmp_path: Path) -> None:
    """A huge section is a matter for lint, not a failure."""
    more = "\n".join(f"- **GA1 comply** How do I prune tree {number}?" for number in range(5000))
    write(tmp_path, {**FILES, "gardens.md": GARDENS + more})

    assert len(load_policy(tmp_path).section["gardens"].examples) == 5003


def test_a_copy_of_the_default_policy_is_the_same_policy(tmp_path: Path) -> None:
    """Its digest does not depend on where it lies."""
    shutil.copytree(default_policy_folder(), tmp_path / "copy")

    assert load_policy(tmp_path / "copy").digest == load_policy(default_policy_folder()).digest
