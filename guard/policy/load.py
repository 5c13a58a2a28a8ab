"""Read a policy folder: ``policy.yaml`` and one Markdown file per section (see section.py).

Every problem is collected with its file and line, and raised together as one PolicyError. Sections
whose text did not change since the last load are taken from a cache, so that a reload costs what
was edited.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from guard.errors import PolicyError, Problem
from guard.policy.model import Policy, Ruling
from guard.policy.section import ParsedSection, parse_section

MANIFEST = "policy.yaml"

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


@dataclass
class SectionCache:
    """Parsed sections of the last load, by section id, with the text they were parsed from."""

    _parsed: dict[str, tuple[str, ParsedSection]] = field(default_factory=dict)

    def parse(self, texts: Mapping[str, str]) -> dict[str, ParsedSection]:
        """Parse these section texts, by id; afterwards only these are cached."""
        fresh: dict[str, tuple[str, ParsedSection]] = {}
        for section_id, text in texts.items():
            known = self._parsed.get(section_id)
            same = known is not None and known[0] == text
            fresh[section_id] = known if known and same else (text, parse_section(section_id, text))
        self._parsed = fresh
        return {section_id: parsed for section_id, (_, parsed) in fresh.items()}


def load_policy(folder: Path, cache: SectionCache | None = None) -> Policy:
    """Read and check a policy folder.

    Args:
        folder: Holds ``policy.yaml`` and the section files.
        cache: Sections parsed before; keep one per folder to make reloads cheap.

    Raises:
        PolicyError: The folder is not a usable policy; holds every problem found.
    """
    return parse_policy(read_policy_files(folder), folder, cache)


def read_policy_files(folder: Path) -> dict[str, str]:
    """The policy's files by name: the manifest and every ``*.md`` beside it but the README.

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


def parse_policy(
    files: Mapping[str, str], folder: Path = Path(), cache: SectionCache | None = None
) -> Policy:
    """Make a policy of file texts by name; ``folder`` only serves to name places in problems.

    Raises:
        PolicyError: With every problem found.
    """
    manifest, problems = _read_manifest(files.get(MANIFEST, ""))
    texts = {name[:-3]: text for name, text in files.items() if name.endswith(".md")}
    parsed = (cache or SectionCache()).parse(texts)
    for part in parsed.values():
        problems.extend(part.problems)
    problems.extend(_check_ids(parsed))
    if manifest:
        problems.extend(_check_listing(manifest, texts))
    if problems or manifest is None:
        raise PolicyError([Problem(str(folder / p.file), p.line, p.message) for p in problems])
    return Policy(
        name=manifest.name,
        title=manifest.title,
        version=manifest.version,
        precedence=tuple(manifest.precedence),
        principles=tuple(manifest.principles),
        styles={Ruling(key): text for key, text in manifest.styles.model_dump().items()},
        refusals=dict(manifest.refusals),
        sections=tuple(parsed[section_id].section for section_id in manifest.sections),
    )


def _read_manifest(text: str) -> tuple[_Manifest | None, list[Problem]]:
    try:
        data: Any = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        return None, [Problem(MANIFEST, line, f"is not YAML: {error.problem}")]
    except yaml.YAMLError as error:
        return None, [Problem(MANIFEST, 0, f"is not YAML: {error}")]
    if not isinstance(data, dict):
        return None, [Problem(MANIFEST, 0, "must be a mapping with name, title, version, sections, …")]
    if isinstance(data.get("version"), int | float):
        data["version"] = str(data["version"])
    try:
        return _Manifest.model_validate(data), []
    except ValidationError as error:
        problems = []
        for item in error.errors():
            where = ".".join(str(part) for part in item["loc"])
            line = _line_of_key(text, str(item["loc"][0]))
            problems.append(Problem(MANIFEST, line, f"{where}: {item['msg']}"))
        return None, problems


def _check_listing(manifest: _Manifest, names: Iterable[str]) -> list[Problem]:
    """Files and manifest name the same sections; refusal texts name known ones."""
    listed, present = set(manifest.sections), set(names)
    messages = [
        *(f"lists section {s!r}, but {s}.md is absent" for s in sorted(listed - present)),
        *(f"refusals: {k!r} is not a section" for k in manifest.refusals if k not in {"default", *listed}),
    ]
    if len(listed) < len(manifest.sections):
        messages.append("lists a section twice")
    if "default" not in manifest.refusals:
        messages.append("refusals: the text 'default' is missing")
    unlisted = (
        Problem(f"{s}.md", 0, f"is not listed under sections in {MANIFEST}") for s in present - listed
    )
    return [*(Problem(MANIFEST, 0, message) for message in messages), *unlisted]


def _check_ids(parsed: Mapping[str, ParsedSection]) -> list[Problem]:
    """Clause ids are unique over all files, and each section has a prefix of its own."""
    problems: list[Problem] = []
    places: dict[str, str] = {}
    owner: dict[str, str] = {}
    for section_id, part in parsed.items():
        name = f"{section_id}.md"
        for clause_id, line in part.lines:
            first = places.setdefault(clause_id, f"{name}:{line}")
            if first != f"{name}:{line}":
                problems.append(Problem(name, line, f"clause {clause_id} is already at {first}"))
        prefixes = sorted({clause_id.rstrip("0123456789") for clause_id, _ in part.lines})
        if len(prefixes) > 1:
            problems.append(Problem(name, 0, f"clause ids have several prefixes: {', '.join(prefixes)}"))
        for prefix in prefixes:
            if owner.setdefault(prefix, section_id) != section_id:
                problems.append(Problem(name, 0, f"prefix {prefix} belongs to {owner[prefix]}.md"))
    return problems


def _line_of_key(text: str, key: str) -> int:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith(f"{key}:"):
            return number
    return 0
