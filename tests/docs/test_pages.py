"""The pages say what is true: commands parse, targets exist, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from guard.cli import app

ROOT = Path(__file__).parent.parent.parent
PAGES = [
    ROOT / name for name in ("README.md", "CONTRIBUTING.md", "docs/operations.md", "docs/architecture.md")
]
_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _commands() -> Iterator[tuple[str, str]]:
    """Every `guard` command line in a code block, with its page."""
    for page in PAGES:
        for block in _BLOCK.findall(page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                typed = line.strip().removeprefix(".venv/bin/")
                if typed.startswith("guard "):
                    yield page.name, typed.split("|")[0]


def test_pages_show_commands() -> None:
    """The check below has something to check."""
    assert len(list(_commands())) >= 5


@pytest.mark.parametrize(("page", "line"), list(_commands()))
def test_every_guard_command_parses(page: str, line: str) -> None:
    """A command in the docs names existing subcommands and options."""
    words = shlex.split(line, comments=True)[1:]
    command, name = get_command(app), "guard"
    while words and not words[0].startswith("-") and words[0] in getattr(command, "commands", {}):
        name = words.pop(0)
        command = command.commands[name]  # type: ignore[attr-defined]

    command.make_context(name, words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_exists(page: Path) -> None:
    """`make X` in a page is a target of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake ([a-z]+)", "\n".join(_BLOCK.findall(page.read_text(encoding="utf-8")))))

    assert {target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    """Links between pages are not broken."""
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text(encoding="utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []
