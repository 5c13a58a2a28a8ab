"""``guard policy``: check a policy, show it, compare two versions."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import orjson
import typer
from rich.console import Console, RenderableType
from rich.text import Text

from guard.errors import PolicyError, Problem
from guard.policy.compose import render_policy
from guard.policy.diff import diff
from guard.policy.display import (
    clause_json,
    clause_view,
    diff_json,
    diff_view,
    policy_json,
    policy_view,
    section_json,
    section_view,
)
from guard.policy.lint import lint
from guard.policy.load import (
    MANIFEST,
    SectionCache,
    default_policy_folder,
    parse_policy,
    read_policy_files,
    section_texts,
)
from guard.policy.model import Policy

PIPED_WIDTH = 120
"""Columns of tables that do not go to a terminal, unless COLUMNS says otherwise."""

policy_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Check, show and compare policies.",
)

Arg = typer.Argument
Opt = typer.Option


@policy_app.command()
def check(
    folder: Annotated[
        Path | None, Arg(metavar="DIR", help="Policy folder; the default policy when left out.")
    ] = None,
    strict: Annotated[bool, Opt("--strict", help="Exit 1 when there are warnings.")] = False,
) -> None:
    """List every problem of a policy (exit status 1), then warnings about its wording."""
    folder = folder or default_policy_folder()
    policy, lines = _load(folder)
    warnings = lint(policy, lines)
    for warning in warnings:
        place = str(folder / warning.file)
        _print_problem(Problem(place, warning.line, f"warning: {warning.message}"))
    counts = (
        _count(len(policy.sections), "section"),
        _count(len(policy.clauses), "clause"),
        _count(sum(len(section.examples) for section in policy.sections), "example"),
        _count(len(warnings), "warning"),
    )
    _print(Text(f"{policy.name} {policy.version}: {', '.join(counts)}, digest {policy.digest}"))
    if warnings and strict:
        raise typer.Exit(1)


@policy_app.command()
def show(
    first: Annotated[
        str | None, Arg(metavar="DIR", help="Policy folder; the default policy when left out.")
    ] = None,
    second: Annotated[
        str | None, Arg(metavar="SECTION|CLAUSE", help="Section id or clause id, such as SH3.")
    ] = None,
    as_json: Annotated[bool, Opt("--json", help="Print JSON.")] = False,
    prompt: Annotated[bool, Opt("--prompt", help="Print exactly what the model reads.")] = False,
) -> None:
    """Show a policy, one of its sections or one clause."""
    if as_json and prompt:
        raise typer.BadParameter("choose --json or --prompt")
    folder, wanted = _folder_and_part(first, second)
    policy, _ = _load(folder)
    clause = policy.clauses.get(wanted.upper())
    section = policy.section_of[clause.id] if clause else policy.section.get(wanted.lower())
    if wanted and section is None:
        _fail(f"{wanted!r} is neither a section nor a clause of {folder}, nor a policy folder")
    if prompt:
        given = [section.id] if section else []
        _write(render_policy(policy).system(given, constant=section is None).encode())
    elif clause and section:
        _show(clause_view(clause, section), clause_json(clause), as_json=as_json)
    elif section:
        _show(section_view(section), section_json(section), as_json=as_json)
    else:
        _show(policy_view(policy), policy_json(policy), as_json=as_json)


@policy_app.command("diff")
def compare(
    old: Annotated[Path, Arg(metavar="OLD", help="Policy folder to start from.")],
    new: Annotated[Path, Arg(metavar="NEW", help="Policy folder to arrive at.")],
    as_json: Annotated[bool, Opt("--json", help="Print JSON.")] = False,
) -> None:
    """Show what differs between two versions of a policy, clause by clause."""
    found = diff(_load(old)[0], _load(new)[0])
    _show(diff_view(found), diff_json(found), as_json=as_json)


def _folder_and_part(first: str | None, second: str | None) -> tuple[Path, str]:
    """One argument alone may be either."""
    if first is None:
        return default_policy_folder(), ""
    if second is not None:
        return Path(first), second
    if (Path(first) / MANIFEST).exists() or "/" in first or first in {".", ".."}:
        return Path(first), ""
    return default_policy_folder(), first


def _load(folder: Path) -> tuple[Policy, dict[str, int]]:
    """The policy and the line of each clause; prints every problem and ends where there are any."""
    cache = SectionCache()
    try:
        files = read_policy_files(folder)
        policy = parse_policy(files, folder, cache)
    except PolicyError as error:
        for problem in error.problems:
            _print_problem(problem)
        _fail(f"{folder} cannot be used: {_count(len(error.problems), 'problem')}")
    sections = cache.parse(section_texts(files)).values()
    return policy, {clause: line for section in sections for clause, line in section.lines}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _print_problem(problem: Problem) -> None:
    _print(Text(str(problem)))


def _show(view: RenderableType, value: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        _write(orjson.dumps(value, option=orjson.OPT_INDENT_2))
    else:
        _console().print(view, soft_wrap=isinstance(view, Text))


def _print(text: Text) -> None:
    """Lines that are never wrapped, since other programs read them."""
    _console().print(text, soft_wrap=True)


def _write(data: bytes) -> None:
    """Bytes as they are, whatever the terminal and its encoding, and a newline."""
    typer.echo(data)


def _fail(message: str) -> NoReturn:
    Console(stderr=True, highlight=False).print(Text(f"guard: {message}", style="red"), soft_wrap=True)
    raise typer.Exit(1)


def _console() -> Console:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an ASCII locale must not end the listing
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED_WIDTH
    return console
