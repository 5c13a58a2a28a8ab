"""Read one section file.

A section file ``self-harm.md`` is the section with id ``self-harm``::

    # Title
    One-line summary.
    ## Definitions            prose or list
    ## Clauses                - **SH1 comply** Text.
                                - Except: text.
    ## Why                    prose
    ## Safe completion        prose (optional)
    ## Examples               - **SH1 comply** A prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from guard.errors import Problem
from guard.policy.characters import CONTROL, normal_text
from guard.policy.model import Clause, Example, Ruling, Section

REQUIRED_PARTS = ("Definitions", "Clauses", "Why", "Examples")
PARTS = (*REQUIRED_PARTS, "Safe completion")

_LABEL = re.compile(r"\*\*(?P<id>\S+)\s+(?P<ruling>\S+)\*\*\s+(?P<text>\S.*)", re.DOTALL)
_CLAUSE_ID = re.compile(r"[A-Z]{2,4}[1-9][0-9]{0,2}")
_SECTION_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_MARKDOWN = MarkdownIt("commonmark").disable("reference")
"""Without link definitions, which would swallow a line such as ``[Target]: a living person``."""
_EXCEPT = re.compile(r"except:\s+(?P<text>\S.*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class ParsedSection:
    """A section as read from one file, with what is wrong in it."""

    section: Section
    problems: tuple[Problem, ...]
    """Files are named relative to the policy folder."""
    lines: tuple[tuple[str, int], ...]
    """Clause id and 1-based line of every clause, in file order."""


def parse_section(section_id: str, text: str) -> ParsedSection:
    """Parse the text of ``<section_id>.md``; problems are returned, all of them, never raised."""
    reader = _SectionReader(f"{section_id}.md")
    section = reader.section(section_id, normal_text(text))
    return ParsedSection(section, tuple(reader.problems), tuple(reader.lines))


@dataclass
class _SectionReader:
    """Parses one file and remembers what is wrong with it and where each clause stands."""

    name: str
    problems: list[Problem] = field(default_factory=list)
    lines: list[tuple[str, int]] = field(default_factory=list)
    misread: set[str] = field(default_factory=set)
    """Ids whose label has a problem; examples that cite them are not to blame."""

    def report(self, line: int, message: str) -> None:
        self.problems.append(Problem(self.name, line, message))

    def section(self, section_id: str, text: str) -> Section:
        if not _SECTION_ID.fullmatch(section_id):
            self.report(0, "section ids are lower-case words joined by hyphens")
        for number, line in enumerate(text.split("\n"), start=1):
            if found := CONTROL.search(line):
                self.report(number, f"holds the control character U+{ord(found[0]):04X}")
        nodes = list(SyntaxTreeNode(_MARKDOWN.parse(text)).children)
        title, summary = self._head(nodes)
        parts = self._parts(nodes)
        clauses = tuple(self._clauses(parts.get("Clauses", [])))
        known = {clause.id: clause for clause in clauses}
        examples = tuple(self._examples(parts.get("Examples", []), known))
        return Section(
            id=section_id,
            title=title,
            summary=summary,
            definitions=_prose(text, parts.get("Definitions", [])),
            clauses=clauses,
            why=_flat(_prose(text, parts.get("Why", []))),
            safe_completion=_flat(_prose(text, parts.get("Safe completion", []))),
            examples=examples,
        )

    def _head(self, nodes: list[SyntaxTreeNode]) -> tuple[str, str]:
        if not nodes or nodes[0].type != "heading" or nodes[0].tag != "h1" or not _heading(nodes[0]):
            self.report(1, "must begin with '# Title'")
            return "", ""
        title = _heading(nodes[0])
        if len(nodes) < 2 or nodes[1].type != "paragraph":
            self.report(_line(nodes[0]), "needs a one-line summary under the title")
            return title, ""
        return title, _flat(nodes[1].children[0].content)

    def _parts(self, nodes: list[SyntaxTreeNode]) -> dict[str, list[SyntaxTreeNode]]:
        """The blocks under each ``##`` heading."""
        parts: dict[str, list[SyntaxTreeNode]] = {}
        current: list[SyntaxTreeNode] | None = None
        for position, node in enumerate(nodes[1:], start=1):
            if node.type == "heading" and node.tag in {"h1", "h2"}:
                heading = _heading(node)
                if node.tag == "h1" or heading not in PARTS:
                    wanted = ", ".join(PARTS)
                    self.report(_line(node), f"unknown heading {heading!r}; use {wanted}")
                elif heading in parts:
                    self.report(_line(node), f"heading {heading!r} appears twice")
                current = parts.setdefault(heading, [])
            elif current is not None:
                current.append(node)
            elif position > 1:
                self.report(_line(node), "only one summary paragraph before the first '##'")
        for heading in REQUIRED_PARTS:
            if not parts.get(heading):
                self.report(0, f"part '## {heading}' is missing or empty")
        return parts

    def _labelled(self, nodes: list[SyntaxTreeNode]) -> Iterator[tuple[SyntaxTreeNode, str, Ruling, str]]:
        """List items of the form ``- **SH1 comply** text``."""
        for node in nodes:
            if node.type != "bullet_list":
                self.report(_line(node), "only list items '- **SH1 comply** Text.' stand here")
                continue
            for item in node.children:
                paragraphs = [c.children[0].content for c in item.children if c.type == "paragraph"]
                match = _LABEL.fullmatch("\n".join(paragraphs))
                if not match:
                    self.report(_line(item), "must read '- **SH1 comply** Text.'")
                elif match["ruling"] not in list(Ruling):
                    self.misread.add(match["id"])
                    choices = ", ".join(Ruling)
                    self.report(_line(item), f"ruling {match['ruling']!r} is not one of {choices}")
                elif not _CLAUSE_ID.fullmatch(match["id"]):
                    self.report(_line(item), f"clause id {match['id']!r} must look like SH3")
                else:
                    yield item, match["id"], Ruling(match["ruling"]), match["text"]

    def _clauses(self, nodes: list[SyntaxTreeNode]) -> Iterator[Clause]:
        for item, clause_id, ruling, text in self._labelled(nodes):
            self.lines.append((clause_id, _line(item)))
            exceptions = tuple(self._exceptions(item))
            yield Clause(clause_id, ruling, _flat(text), exceptions)

    def _exceptions(self, item: SyntaxTreeNode) -> Iterator[str]:
        for child in item.children:
            if child.type == "paragraph":
                continue
            for sub in child.children if child.type == "bullet_list" else [child]:
                alone = sub.type == "list_item" and [c.type for c in sub.children] == ["paragraph"]
                match = _EXCEPT.fullmatch(sub.children[0].children[0].content) if alone else None
                if match:
                    yield _flat(match["text"])
                else:
                    self.report(_line(sub), "under a clause only '- Except: text' may stand")

    def _examples(self, nodes: list[SyntaxTreeNode], known: dict[str, Clause]) -> Iterator[Example]:
        for item, clause_id, ruling, text in self._labelled(nodes):
            clause = known.get(clause_id)
            if len(item.children) > 1:
                self.report(_line(item.children[1]), "an example is one paragraph")
            elif clause is None and clause_id in self.misread:
                continue
            elif clause is None:
                self.report(_line(item), f"example cites {clause_id}, not a clause of this file")
            elif clause.ruling is not ruling and not clause.exceptions:
                self.report(
                    _line(item),
                    f"example says {ruling}, but {clause_id} says {clause.ruling} without exception",
                )
            else:
                yield Example(_flat(text), ruling, clause_id)


def _line(node: SyntaxTreeNode) -> int:
    return node.map[0] + 1 if node.map else 0


def _flat(text: str) -> str:
    return " ".join(text.split())


def _heading(node: SyntaxTreeNode) -> str:
    return _flat(node.children[0].content) if node.children else ""


def _prose(text: str, nodes: list[SyntaxTreeNode]) -> str:
    """These blocks with a line for each paragraph or list item, however the file wraps them."""
    lines = text.split("\n")
    return "\n".join(line for node in nodes for line in _prose_lines(lines, node))


def _prose_lines(lines: list[str], node: SyntaxTreeNode) -> Iterator[str]:
    if node.type == "paragraph":
        yield _flat(node.children[0].content)
    elif node.type in {"bullet_list", "ordered_list"}:
        for number, item in enumerate(node.children, start=int(node.attrs.get("start", 1))):
            marker = "-" if node.type == "bullet_list" else f"{number}."
            inner = [line for child in item.children for line in _prose_lines(lines, child)]
            yield f"{marker} {inner[0] if inner else ''}".rstrip()
            yield from (f"  {line}" for line in inner[1:])
    elif node.map:  # code, a quotation, a subheading: as written, without blank lines
        yield from (line.rstrip() for line in lines[node.map[0] : node.map[1]] if line.strip())
