"""A policy, a section, a clause or a difference for people (rich) and for programs (JSON values).

Policy text is never markup: it only gets into a renderable as ``Text``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from guard.policy.compose import estimate_tokens, render_section
from guard.policy.diff import PolicyDiff, SectionChange, TextChange
from guard.policy.model import Clause, Example, Policy, Ruling, Section

_COLOURS = {Ruling.COMPLY: "green", Ruling.SAFE_COMPLETE: "yellow", Ruling.REFUSE: "red"}


def policy_view(policy: Policy) -> RenderableType:
    """The whole policy: what it is, its sections, its rules of precedence and style."""
    sections = _table("Section", "Clauses", "comply", "safe", "refuse", "Examples", "Tokens", "Summary")
    for section in policy.sections:
        rulings = [clause.ruling for clause in section.clauses]
        sections.add_row(
            Text(section.id, style="bold"),
            f"{section.clauses[0].id}-{section.clauses[-1].id}",
            *(str(rulings.count(ruling)) for ruling in Ruling),
            str(len(section.examples)),
            str(estimate_tokens(render_section(section))),
            Text(section.summary),
        )
    clauses = len(policy.clauses)
    examples = sum(len(section.examples) for section in policy.sections)
    return Group(
        Text.assemble((policy.title, "bold"), f"  {policy.name} {policy.version}"),
        Text(f"digest {policy.digest}", style="dim"),
        Text(f"{len(policy.sections)} sections, {clauses} clauses, {examples} examples\n"),
        sections,
        *_titled("Precedence", *(f"{n}. {text}" for n, text in enumerate(policy.precedence, start=1))),
        *_titled("Style and helpfulness", *(f"- {text}" for text in policy.principles)),
        *_titled("Answers", *(f"{ruling}: {text}" for ruling, text in policy.styles.items())),
        *_titled("Refusal texts", *(f"{section}: {text}" for section, text in policy.refusals.items())),
    )


def section_view(section: Section) -> RenderableType:
    """One section with its clauses and examples."""
    clauses = _table("Clause", "Ruling", "Text")
    for clause in section.clauses:
        exceptions = (Text(f"Except: {text}", style="italic") for text in clause.exceptions)
        clauses.add_row(
            Text(clause.id, style="bold"), _ruling(clause.ruling), Group(Text(clause.text), *exceptions)
        )
    tokens = estimate_tokens(render_section(section))
    style = _titled("Safe completion", section.safe_completion) if section.safe_completion else ()
    return Group(
        Text.assemble((section.title, "bold"), f"  {section.id}"),
        Text(f"digest {section.digest}, about {tokens} tokens", style="dim"),
        Text(section.summary),
        *_titled("Definitions", section.definitions + "\n"),
        clauses,
        *_titled("Why", section.why),
        *style,
        Text(),
        _examples(section.examples),
    )


def clause_view(clause: Clause, section: Section) -> RenderableType:
    """One clause and the examples that exercise it."""
    examples = tuple(example for example in section.examples if example.clause == clause.id)
    return Group(
        Text.assemble((clause.id, "bold"), " ", _ruling(clause.ruling), f"  {section.id}"),
        Text(f"digest {clause.digest}", style="dim"),
        Text(clause.text),
        *(Text(f"Except: {text}", style="italic") for text in clause.exceptions),
        Text(),
        _examples(examples) if examples else Text("No example.", style="dim"),
    )


def diff_view(diff: PolicyDiff) -> Text:
    """A difference, one line each, with old text after ``-`` and new text after ``+``."""
    old, new = diff.old, diff.new
    if diff.same:
        return Text(f"The same policy: {new.name} {new.version}, digest {new.digest}")
    lines = [
        Text(f"- {old.name} {old.version}  {old.digest}", style="red"),
        Text(f"+ {new.name} {new.version}  {new.digest}", style="green"),
        *(Text(f"! {warned.message}", style="bold yellow") for warned in diff.warned),
    ]
    if diff.manifest:
        lines += [Text(), Text("policy.yaml", style="bold underline")]
        lines += (line for text in diff.manifest for line in _text_change(text))
    for section in diff.sections:
        lines += [Text(), Text(f"{section.id} {section.change}", style="bold underline")]
        lines += _section_change(section)
    return Text("\n").join(lines)


def _section_change(section: SectionChange) -> Iterator[Text]:
    for text in section.texts:
        yield from _text_change(text)
    for clause in section.clauses:
        never = "; never use this id again" if clause.new is None else ""
        yield Text(f"  {clause.id}: {', '.join(clause.changes)}{never}", style="bold")
        yield from _old_and_new(_clause_lines(clause.old), _clause_lines(clause.new))
    yield from _old_and_new(
        [f"example {_example(example)}" for example in section.examples_removed],
        [f"example {_example(example)}" for example in section.examples_added],
    )


def _clause_lines(clause: Clause | None) -> list[str]:
    if clause is None:
        return []
    return [f"{clause.ruling}: {clause.text}", *(f"Except: {text}" for text in clause.exceptions)]


def _text_change(change: TextChange) -> Iterator[Text]:
    yield Text(f"  {change.what}", style="bold")
    yield from _old_and_new(change.old.splitlines(), change.new.splitlines())


def _old_and_new(old: list[str], new: list[str]) -> Iterator[Text]:
    yield from (Text(f"  - {line}", style="red") for line in old if line not in new)
    yield from (Text(f"  + {line}", style="green") for line in new if line not in old)


def _example(example: Example) -> str:
    return f"[{example.clause}] {example.ruling}: {example.prompt}"


def _examples(examples: tuple[Example, ...]) -> Table:
    table = _table("Example", "Ruling", "Clause")
    for example in examples:
        table.add_row(Text(example.prompt), _ruling(example.ruling), example.clause)
    return table


def _table(*columns: str) -> Table:
    table = Table(show_edge=False, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _titled(title: str, *lines: str) -> tuple[Text, ...]:
    return (Text(f"\n{title}", style="bold"), *(Text(line) for line in lines))


def _ruling(ruling: Ruling) -> Text:
    return Text(ruling.value, style=_COLOURS[ruling])


def policy_json(policy: Policy) -> dict[str, Any]:
    """The whole policy with its digests and sizes."""
    return {
        "name": policy.name,
        "title": policy.title,
        "version": policy.version,
        "digest": policy.digest,
        "precedence": policy.precedence,
        "principles": policy.principles,
        "styles": {ruling.value: text for ruling, text in policy.styles.items()},
        "refusals": dict(policy.refusals),
        "sections": [section_json(section) for section in policy.sections],
    }


def section_json(section: Section) -> dict[str, Any]:
    """One section with its digest and size."""
    clauses = [clause_json(clause) for clause in section.clauses]
    tokens = estimate_tokens(render_section(section))
    return {**asdict(section), "clauses": clauses, "digest": section.digest, "tokens": tokens}


def clause_json(clause: Clause) -> dict[str, Any]:
    """One clause with its digest."""
    return {**asdict(clause), "digest": clause.digest}


def diff_json(diff: PolicyDiff) -> dict[str, Any]:
    """A difference."""
    return {"same": diff.same, **asdict(diff)}
