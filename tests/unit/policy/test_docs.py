from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guard.policy import lint as lint_module
from guard.policy.cli import policy_app
from guard.policy.lint import lint
from guard.policy.load import default_policy_folder, parse_policy, read_policy_files
from tests.unit.policy.small import write

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "policy-authoring.md").read_text(encoding="utf-8")
SECTION = re.search(r"```markdown\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``my-policy`` of the page, in the working directory: the default policy with the page's section."""
    assert SECTION is not None
    files = read_policy_files(default_policy_folder())
    manifest = files["policy.yaml"].rstrip("\n") + "\n  - lending\n"
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    return write(tmp_path / "my-policy", {**files, "policy.yaml": manifest, "lending.md": SECTION[1]})


def test_the_section_on_the_page_is_a_good_one(folder: Path) -> None:
    """No problems, no warnings."""
    assert lint(parse_policy(read_policy_files(folder))) == ()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", ["show my-policy LE3", "show my-policy lending --prompt"])
def test_the_page_shows_what_the_commands_print(command: str) -> None:
    """The output on the page is the output, from its first line on."""
    shown = rf"^\$ guard policy {command}( \| head -5)?\n(.*?)^```"
    block = re.search(shown, PAGE, re.DOTALL | re.MULTILINE)
    assert block is not None
    printed = CliRunner().invoke(policy_app, command.split()).stdout

    assert [line.rstrip() for line in printed.splitlines()][: block[2].count("\n")] == block[2].splitlines()


def test_the_page_explains_every_warning() -> None:
    """By words that stand in the message and on the page."""
    source = Path(lint_module.__file__).read_text(encoding="utf-8")

    for words in (
        "tokens; write", "examples; write at least", "get an answer", "has no example",
        "stands already under",
        "leaves the decision to the reader", "a sentence of", "has no clause that says",
        "but no style says how such an answer reads", "but no clause that says safe_complete",
        "holds the invisible character", "holds a tag that means something to the engine",
    ):  # fmt: skip
        assert words in source
        assert words.split(";")[0] in PAGE


@pytest.mark.parametrize("page", ["docs/policy-authoring.md", "specs/README.md"])
def test_every_command_on_the_page_exists(page: str) -> None:
    """With its options."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for command, arguments in re.findall(r"guard policy (\w+)([^\n`#|]*)", text):
        help_text = CliRunner().invoke(policy_app, [command, "--help"]).stdout

        assert "Usage" in help_text, command
        assert [option for option in re.findall(r"--\w+", arguments) if option not in help_text] == []
