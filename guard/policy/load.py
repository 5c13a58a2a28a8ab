"""Read a policy folder: ``policy.yaml`` and one Markdown file per section.

A section file ``self-harm.md`` is the section with id ``self-harm``::

    # Title
    One-line summary.
    ## Definitions            prose or list
    ## Clauses                - **SH1 comply** Text.
                                - Except: text.
    ## Why                    prose
    ## Safe completion        prose (optional)
    ## Examples               - **SH1 comply** A prompt.

Every problem is collected with its file and line, and raised together as one PolicyError.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from guard.errors import PolicyError, Problem
from guard.policy.model import Clause, Example, Policy, Ruling, Section

MANIFEST = "policy.yaml"
REQUIRED_PARTS = ("Definitions", "Clauses", "Why", "Examples")
PARTS = (*REQUIRED_PARTS, "Safe completion")

_LABEL = re.compile(r"\*\*(?P<id>\S+)\s+(?P<ruling>\S+)\*\*\s+(?P<text>\S.*)", re.DOTALL)
_CLAUSE_ID = re.compile(r"[A-Z]{2,4}[1-9][0-9]{0,2}")
_SECTION_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_EXCEPT = re.compile(r"except:\s+(?P<text>\S.*)", re.IGNORECASE | re.DOTALL)

Text = Annotated[str, Field(min_length=1)]


class _Styles(BaseModel):
    model_config = ConfigDict(extra="forbid")

    comply: Text
    safe_complete: Text
    refuse: Text


class _Manifest(BaseModel):
    """``policy.yaml`` as written."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    title: Text
    version: Text
    precedence: Annotated[list[Text], Field(min_length=1)]
    principles: Annotated[list[Text], Field(min_length=1)]
    styles: _Styles
    refusals: dict[str, Text]
    sections: Annotated[list[str], Field(min_length=1)]


def load_policy(folder: Path) -> Policy:
    """Read and check a policy folder.

    Raises:
        PolicyError: The folder is not a usable policy; holds every problem found.
    """
    return parse_policy(read_policy_files(folder), folder)


def read_policy_files(folder: Path) -> dict[str, str]:
    """The policy's files by name: the manifest and every ``*.md`` beside it.

    Raises:
        PolicyError: The folder, the manifest or a file cannot be read.
    """
    if not folder.is_dir():
        raise PolicyError([Problem(str(folder), 0, "no such policy folder")])
    if not (folder / MANIFEST).is_file():
        raise PolicyError([Problem(str(folder), 0, f"holds no {MANIFEST}")])
    files: dict[str, str] = {}
    problems: list[Problem] = []
    for path in sorted([folder / MANIFEST, *folder.glob("*.md")]):
        if path.name.lower() == "readme.md":
            continue
        try:
            files[path.name] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problems.append(Problem(str(path), 0, f"cannot be read: {error}"))
    if problems:
        raise PolicyError(problems)
    return files


def parse_policy(files: dict[str, str], folder: Path = Path()) -> Policy:
    """Make a policy of file texts by name; ``folder`` only serves to name places in problems.

    Raises:
        PolicyError: With every problem found.
    """
    reader = _Reader(folder)
    manifest = reader.manifest(files.get(MANIFEST, ""))
    order = manifest.sections if manifest else sorted(n[:-3] for n in files if n.endswith(".md"))
    sections: list[Section] = []
    for section_id in dict.fromkeys(order):
        text = files.get(f"{section_id}.md")
        if text is None:
            reader.report(MANIFEST, 0, f"lists section {section_id!r}, but {section_id}.md is absent")
        else:
            sections.append(reader.section(section_id, text))
    if manifest:
        reader.check_listing(manifest, files)
    reader.check_ids(sections)
    if reader.problems or manifest is None:
        raise PolicyError(reader.problems)
    return Policy(
        name=manifest.name,
        title=manifest.title,
        version=manifest.version,
        precedence=tuple(manifest.precedence),
        principles=tuple(manifest.principles),
        styles={Ruling(key): text for key, text in manifest.styles.model_dump().items()},
        refusals=dict(manifest.refusals),
        sections=tuple(sections),
    )


@dataclass
class _Reader:
    """Parses files and remembers what is wrong with them and where each clause stands."""

    folder: Path
    problems: list[Problem] = field(default_factory=list)
    places: dict[str, tuple[str, int]] = field(default_factory=dict)
    """File and line of each clause id, in order of appearance."""

    def report(self, name: str, line: int, message: str) -> None:
        self.problems.append(Problem(str(self.folder / name), line, message))

    def manifest(self, text: str) -> _Manifest | None:
        try:
            data: Any = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark else 0
            self.report(MANIFEST, line, f"is not YAML: {getattr(error, 'problem', error)}")
            return None
        if not isinstance(data, dict):
            self.report(MANIFEST, 0, "must be a mapping with name, title, version, sections, …")
            return None
        if isinstance(data.get("version"), int | float):
            data["version"] = str(data["version"])
        try:
            return _Manifest.model_validate(data)
        except ValidationError as error:
            for item in error.errors():
                where = ".".join(str(part) for part in item["loc"])
                line = _line_of_key(text, str(item["loc"][0]))
                self.report(MANIFEST, line, f"{where}: {item['msg']}")
            return None

    def check_listing(self, manifest: _Manifest, files: dict[str, str]) -> None:
        listed = set(manifest.sections)
        if len(listed) < len(manifest.sections):
            self.report(MANIFEST, 0, "lists a section twice")
        for name in files:
            if name.endswith(".md") and name[:-3] not in listed:
                self.report(name, 0, f"is not listed under sections in {MANIFEST}")
        if "default" not in manifest.refusals:
            self.report(MANIFEST, 0, "refusals: the text 'default' is missing")
        for key in manifest.refusals:
            if key != "default" and key not in listed:
                self.report(MANIFEST, 0, f"refusals: {key!r} is not a section")

    def check_ids(self, sections: list[Section]) -> None:
        """Clause ids are unique, share one prefix per section; examples name known clauses."""
        owner: dict[str, str] = {}
        for section in sections:
            name = f"{section.id}.md"
            prefixes = {clause.id.rstrip("0123456789") for clause in section.clauses}
            if len(prefixes) > 1:
                self.report(name, 0, f"clause ids have several prefixes: {sorted(prefixes)}")
            for prefix in prefixes:
                if owner.setdefault(prefix, section.id) != section.id:
                    self.report(name, 0, f"prefix {prefix} already belongs to {owner[prefix]}.md")

    def section(self, section_id: str, text: str) -> Section:
        name = f"{section_id}.md"
        if not _SECTION_ID.fullmatch(section_id):
            self.report(name, 0, "section ids are lower-case words joined by hyphens")
        nodes = list(SyntaxTreeNode(MarkdownIt("commonmark").parse(text)).children)
        title, summary = self._head(name, nodes)
        parts = self._parts(name, nodes)
        clauses = tuple(self._clauses(name, parts.get("Clauses", [])))
        known = {clause.id: clause for clause in clauses}
        examples = tuple(self._examples(name, parts.get("Examples", []), known))
        return Section(
            id=section_id,
            title=title,
            summary=summary,
            definitions=_source(text, parts.get("Definitions", [])),
            clauses=clauses,
            why=_flat(_source(text, parts.get("Why", []))),
            safe_completion=_flat(_source(text, parts.get("Safe completion", []))),
            examples=examples,
        )

    def _head(self, name: str, nodes: list[SyntaxTreeNode]) -> tuple[str, str]:
        if not nodes or nodes[0].type != "heading" or nodes[0].tag != "h1":
            self.report(name, 1, "must begin with '# Title'")
            return "", ""
        title = nodes[0].children[0].content
        if len(nodes) < 2 or nodes[1].type != "paragraph":
            self.report(name, _line(nodes[0]), "needs a one-line summary under the title")
            return title, ""
        if len(nodes) > 2 and nodes[2].type != "heading":
            self.report(name, _line(nodes[2]), "only one summary paragraph before the first '##'")
        return title, _flat(nodes[1].children[0].content)

    def _parts(self, name: str, nodes: list[SyntaxTreeNode]) -> dict[str, list[SyntaxTreeNode]]:
        """The blocks under each ``##`` heading."""
        parts: dict[str, list[SyntaxTreeNode]] = {}
        current: list[SyntaxTreeNode] | None = None
        for node in nodes[1:]:
            if node.type == "heading" and node.tag in {"h1", "h2"}:
                heading = node.children[0].content if node.children else ""
                if node.tag == "h1" or heading not in PARTS:
                    wanted = ", ".join(PARTS)
                    self.report(name, _line(node), f"unknown heading {heading!r}; use {wanted}")
                elif heading in parts:
                    self.report(name, _line(node), f"heading {heading!r} appears twice")
                current = parts.setdefault(heading, [])
            elif current is not None:
                current.append(node)
        for heading in REQUIRED_PARTS:
            if not parts.get(heading):
                self.report(name, 0, f"part '## {heading}' is missing or empty")
        return parts

    def _labelled(
        self, name: str, nodes: list[SyntaxTreeNode]
    ) -> Iterator[tuple[SyntaxTreeNode, str, Ruling, str]]:
        """List items of the form ``- **SH1 comply** text``."""
        for node in nodes:
            if node.type != "bullet_list":
                self.report(name, _line(node), "only list items '- **SH1 comply** Text.' stand here")
                continue
            for item in node.children:
                paragraphs = [c.children[0].content for c in item.children if c.type == "paragraph"]
                match = _LABEL.fullmatch("\n".join(paragraphs))
                if not match:
                    self.report(name, _line(item), "must read '- **SH1 comply** Text.'")
                elif match["ruling"] not in list(Ruling):
                    choices = ", ".join(Ruling)
                    self.report(name, _line(item), f"ruling {match['ruling']!r} is not one of {choices}")
                elif not _CLAUSE_ID.fullmatch(match["id"]):
                    self.report(name, _line(item), f"clause id {match['id']!r} must look like SH3")
                else:
                    yield item, match["id"], Ruling(match["ruling"]), match["text"]

    def _clauses(self, name: str, nodes: list[SyntaxTreeNode]) -> Iterator[Clause]:
        for item, clause_id, ruling, text in self._labelled(name, nodes):
            if clause_id in self.places:
                file, line = self.places[clause_id]
                self.report(name, _line(item), f"clause {clause_id} is already at {file}:{line}")
                continue
            self.places[clause_id] = (name, _line(item))
            exceptions = tuple(self._exceptions(name, item))
            yield Clause(clause_id, ruling, _flat(text), exceptions)

    def _exceptions(self, name: str, item: SyntaxTreeNode) -> Iterator[str]:
        for child in item.children:
            if child.type == "paragraph":
                continue
            for sub in child.children if child.type == "bullet_list" else [child]:
                source = sub.children[0].children[0].content if child.type == "bullet_list" else ""
                match = _EXCEPT.fullmatch(source)
                if match:
                    yield _flat(match["text"])
                else:
                    self.report(name, _line(sub), "under a clause only '- Except: text' may stand")

    def _examples(
        self, name: str, nodes: list[SyntaxTreeNode], known: dict[str, Clause]
    ) -> Iterator[Example]:
        for item, clause_id, ruling, text in self._labelled(name, nodes):
            clause = known.get(clause_id)
            if clause is None:
                self.report(name, _line(item), f"example cites {clause_id}, not a clause of this file")
            elif clause.ruling is not ruling and not clause.exceptions:
                self.report(
                    name,
                    _line(item),
                    f"example says {ruling}, but {clause_id} says {clause.ruling} without exception",
                )
            else:
                yield Example(text.strip(), ruling, clause_id)


def _line(node: SyntaxTreeNode) -> int:
    return node.map[0] + 1 if node.map else 0


def _flat(text: str) -> str:
    return " ".join(text.split())


def _source(text: str, nodes: list[SyntaxTreeNode]) -> str:
    """The Markdown of these blocks as written, without blank lines."""
    lines = text.splitlines()
    blocks = [lines[node.map[0] : node.map[1]] for node in nodes if node.map]
    return "\n".join(line.rstrip() for block in blocks for line in block if line.strip())


def _line_of_key(text: str, key: str) -> int:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith(f"{key}:"):
            return number
    return 0
