from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from guard.policy.cli import policy_app
from guard.policy.compose import render_policy
from guard.policy.load import default_policy_folder, load_policy
from tests.unit.policy.small import FILES, GARDENS, MANIFEST, changed, small_policy, write

SMALL = small_policy()
DEFAULT = load_policy(default_policy_folder())


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No colours or widths from whoever runs the tests."""
    for name in ("COLUMNS", "FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str | Path) -> Result:
    """One command, in this process."""
    return CliRunner().invoke(policy_app, [str(argument) for argument in arguments])


def test_check_lists_every_problem_with_its_place(tmp_path: Path) -> None:
    """One line each on the output, a summary on the error output, exit status 1."""
    files = changed("policy.yaml", "  - kitchens", "  - attic")
    files = changed("gardens.md", "**GA1 comply** Explain", "**GA1 allow** Explain", files)
    write(tmp_path, files)
    result = run("check", tmp_path)

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{tmp_path}/gardens.md:11: ruling 'allow' is not one of comply, safe_complete, refuse",
        f"{tmp_path}/kitchens.md: is not listed under sections in policy.yaml",
        f"{tmp_path}/policy.yaml:16: lists section 'attic', but attic.md is absent",
    ]
    assert result.stderr == f"guard: {tmp_path} cannot be used: 3 problems\n"


def test_check_of_the_default_policy_succeeds_and_says_what_it_is() -> None:
    """Counts and digest on one line."""
    result = run("check")

    assert result.exit_code == 0
    assert result.stdout == (
        f"default {DEFAULT.version}: 16 sections, {len(DEFAULT.clauses)} clauses, "
        f"{sum(len(section.examples) for section in DEFAULT.sections)} examples, 0 warnings, "
        f"digest {DEFAULT.digest}\n"
    )


def test_warnings_come_after_and_do_not_fail(tmp_path: Path) -> None:
    """Unless strictness is asked for; they carry file and line."""
    write(tmp_path, changed("gardens.md", "grow plants.", "grow plants, etc."))
    result, strict = run("check", tmp_path), run("check", "--strict", tmp_path)
    *warnings, summary = result.stdout.splitlines()

    assert (result.exit_code, strict.exit_code) == (0, 1)
    assert strict.stdout == result.stdout
    assert f"{tmp_path}/gardens.md: warning: has 3 examples; write at least 8" in warnings
    assert (
        f"{tmp_path}/gardens.md:11: warning: GA1: 'etc' leaves the decision to the reader; say what decides"
        in warnings
    )
    assert f", {len(warnings)} warnings, digest " in summary


def test_one_is_not_many(tmp_path: Path) -> None:
    """Counts read as a person would write them."""
    files = changed("policy.yaml", "  - kitchens\n", "")
    del files["kitchens.md"]

    assert "small 1: 1 section, 2 clauses, 3 examples, " in run("check", write(tmp_path, files)).stdout


def test_strict_check_of_a_clean_policy_succeeds() -> None:
    """There is nothing to be strict about."""
    assert run("check", "--strict").exit_code == 0


def test_long_lines_are_not_wrapped(tmp_path: Path) -> None:
    """Editors and grep read one problem a line, however long the path."""
    folder = tmp_path / ("deep" * 40)
    write(folder, changed("gardens.md", "## Why", "## Reasons"))

    assert [line.startswith(str(folder)) for line in run("check", folder).stdout.splitlines()] == [True, True]


@pytest.mark.parametrize("command", [["check"], ["show"], ["diff", str(default_policy_folder())]])
def test_a_folder_that_is_not_there_is_told(command: list[str], tmp_path: Path) -> None:
    """By every command, without a traceback."""
    result = run(*command, tmp_path / "attic")

    assert result.exit_code == 1
    assert result.stdout == f"{tmp_path}/attic: no such policy folder\n"
    assert result.stderr == f"guard: {tmp_path}/attic cannot be used: 1 problem\n"


def test_show_lists_sections_and_rules(tmp_path: Path) -> None:
    """What the policy is, what it holds, how conflicts are resolved."""
    shown = run("show", write(tmp_path)).stdout

    for text in (
        "A small policy",
        SMALL.digest,
        "2 sections, 5 clauses, 6 examples",
        "GA1-GA2",
        "Cook things.",
    ):
        assert text in shown
    assert "1. Exceptions come first." in shown
    assert "refuse: Say no." in shown


def test_show_of_a_section_lists_clauses_and_examples(tmp_path: Path) -> None:
    """With everything that the file says."""
    shown = run("show", write(tmp_path), "gardens").stdout

    for text in (
        "Weed",
        "GA2",
        "refuse",
        "Except: the tree is dead.",
        "Trees take long to grow.",
        "his oak?",
    ):
        assert text in shown
    assert "Kitchens" not in shown


def test_show_of_a_clause_lists_its_examples_alone(tmp_path: Path) -> None:
    """The clause, its exceptions, and what exercises it."""
    shown = run("show", write(tmp_path), "GA2").stdout

    assert shown.startswith("GA2 refuse  gardens\n")
    assert "Except: the tree is dead." in shown
    assert "dead stump" in shown
    assert "prune" not in shown


def test_show_finds_parts_of_the_default_policy_by_name_alone() -> None:
    """The folder may be left out, and case does not matter."""
    assert run("show", "sh3").stdout == run("show", default_policy_folder(), "SH3").stdout
    assert run("show", "Self-Harm").stdout == run("show", default_policy_folder(), "self-harm").stdout


@pytest.mark.parametrize("wanted", ["attic", "SH99", "self harm"])
def test_show_of_what_is_not_there_is_told(wanted: str) -> None:
    """With the folder that was looked in."""
    result = run("show", wanted)

    assert result.exit_code == 1
    assert result.stderr == (
        f"guard: {wanted!r} is neither a section nor a clause of {default_policy_folder()}, "
        "nor a policy folder\n"
    )


def test_show_as_json_holds_the_whole_policy() -> None:
    """With digests; the same clause is the same object wherever it is shown."""
    policy = orjson.loads(run("show", "--json").stdout)
    section = orjson.loads(run("show", "self-harm", "--json").stdout)
    clause = orjson.loads(run("show", "SH3", "--json").stdout)

    assert policy["digest"] == DEFAULT.digest
    assert policy["styles"]["refuse"] == DEFAULT.styles[DEFAULT.clauses["SH3"].ruling]
    assert section in policy["sections"]
    assert clause in section["clauses"]
    assert clause["digest"] == DEFAULT.clauses["SH3"].digest


def test_show_as_prompt_prints_what_the_model_reads() -> None:
    """The part of every prompt, or the section as it is added to one, to the byte."""
    spec = render_policy(DEFAULT)

    assert run("show", "--prompt").stdout == f"<policy>\n{spec.constant}\n</policy>\n"
    for wanted in ("self-harm", "SH3"):
        expected = f"<policy>\n{spec.sections['self-harm']}\n</policy>\n"
        assert run("show", wanted, "--prompt").stdout == expected


def test_json_and_prompt_exclude_each_other() -> None:
    """A usage error, before anything is read."""
    result = run("show", "--json", "--prompt")

    assert result.exit_code == 2
    assert "choose --json or --prompt" in result.stderr


def test_diff_shows_what_changed(tmp_path: Path) -> None:
    """And succeeds either way."""
    old, new = write(tmp_path / "old"), write(tmp_path / "new", changed("gardens.md", "a pear", "a plum"))
    different, same = run("diff", old, new), run("diff", old, old)

    assert (different.exit_code, same.exit_code) == (0, 0)
    assert "  - example [GA1] comply: How do I prune a pear?\n" in different.stdout
    assert "  + example [GA1] comply: How do I prune a plum?\n" in different.stdout
    assert same.stdout == f"The same policy: small 1, digest {SMALL.digest}\n"
    assert orjson.loads(run("diff", old, new, "--json").stdout)["same"] is False
    assert orjson.loads(run("diff", old, old, "--json").stdout)["sections"] == []


MARKUP = "[bold]not[/bold] :smile: [link=x]here[/] [/] https://example.com 'x' 12"


def test_markup_in_a_policy_is_text(tmp_path: Path) -> None:
    """Wherever it stands, it is shown as it was written."""
    files = {
        "policy.yaml": MANIFEST.replace("A small policy", f'"{MARKUP}"').replace("Say no.", f'"{MARKUP}"'),
        "gardens.md": GARDENS.replace("how to grow plants.", MARKUP).replace("a pear?", MARKUP),
        "kitchens.md": FILES["kitchens.md"],
    }
    old, new = write(tmp_path / "old"), write(tmp_path / "new", files)
    unwrapped = [
        "".join(part.strip(" │") + " " for part in run(*arguments).stdout.splitlines())
        for arguments in (("show", new), ("show", new, "gardens"), ("show", new, "GA1"), ("diff", old, new))
    ]

    assert [text.count(MARKUP) for text in unwrapped] == [2, 2, 2, 4]


def test_markup_in_problems_is_text(tmp_path: Path) -> None:
    """A broken file does not colour the listing."""
    write(tmp_path, changed("gardens.md", "## Why", "## [red]Why[/red]"))

    assert "unknown heading '[red]Why[/red]'" in run("check", tmp_path).stdout


def guard(*arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    """The command in a process of its own, its output a pipe."""
    code = "from guard.policy.cli import policy_app; policy_app(prog_name='guard policy')"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("arguments", [("show",), ("show", "--json")], ids=" ".join)
def test_a_reader_that_goes_away_ends_the_command_in_silence(arguments: tuple[str, ...]) -> None:
    """As in ``guard policy show | head -1``."""
    with guard(*arguments) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()

        assert process.stderr.read() == b""


def test_output_survives_a_terminal_without_unicode(tmp_path: Path) -> None:
    """Characters that cannot be shown are replaced, and JSON stays what it is."""
    write(tmp_path, changed("gardens.md", "a pear", "a “päar”"))
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    with guard("show", str(tmp_path), "GA1", **environment) as process:
        shown, complaint = process.communicate()
    with guard("show", str(tmp_path), "gardens", "--json", **environment) as process:
        written, _ = process.communicate()

    assert complaint == b""
    assert b"a ?p?ar?" in shown
    assert "a “päar”" in {example["prompt"][15:-1] for example in orjson.loads(written)["examples"]}


def test_a_pipe_gets_a_width_to_read_and_no_colours() -> None:
    """Nothing is cut off, whoever reads."""
    with guard("show", "self-harm", FORCE_COLOR="", NO_COLOR="1") as process:
        shown, _ = process.communicate()
    lines = shown.decode().splitlines()

    assert b"\x1b" not in shown
    assert max(map(len, lines)) <= 120
    assert "…" not in shown.decode()
