"""Read ``policy.yaml``: what a policy says beside its sections.

All its values are text and are taken as written, so that ``version: 1.10`` stays ``1.10`` and ``- no``
stays a word. Every problem knows its line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from guard.errors import Problem
from guard.policy.characters import CONTROL, normal_text

MANIFEST = "policy.yaml"

Path = tuple[str | int, ...]
"""Keys and list positions from the top of the file."""


_WORDING = {
    "missing": "is missing",
    "extra_forbidden": "is not a known key",
    "string_type": "must be text",
    "string_too_short": "is empty",
    "list_type": "must be a list",
    "too_short": "is empty",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "string_pattern_mismatch": "must be lower-case letters, digits and hyphens, beginning with a letter",
    "string_unicode": "holds half of a surrogate pair",
}
"""Pydantic's error types, in words for the author."""


def _printable(text: str) -> str:
    found = CONTROL.search(text)
    if found:
        raise ValueError(f"holds the control character U+{ord(found[0]):04X}")
    return text


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_printable)]


class _Styles(BaseModel):
    model_config = ConfigDict(extra="forbid")

    comply: Text
    safe_complete: Text
    refuse: Text


class Manifest(BaseModel):
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


@dataclass(frozen=True)
class ParsedManifest:
    """The manifest, or why there is none."""

    manifest: Manifest | None
    problems: tuple[Problem, ...]
    lines: Mapping[Path, int] = field(default_factory=dict)
    """1-based line of every key and list item."""
    sections: tuple[str, ...] = ()
    """The sections listed, also where another part has problems."""
    refusals: tuple[str, ...] = ()
    """The keys under refusals, likewise."""

    def line(self, *path: str | int) -> int:
        """Line of this place, or of the nearest one around it; 0 where there is none."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)


def read_manifest(text: str) -> ParsedManifest:
    """Parse the text of ``policy.yaml``; problems are returned, all of them, never raised."""
    text = normal_text(text)
    try:
        loader = yaml.BaseLoader(text)
        node = loader.get_single_node()
        data: Any = loader.construct_document(node) if node else None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return _unusable(line, f"is not YAML: holds the control character U+{error.character:04X}")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return _unusable(mark.line + 1 if mark else 0, f"is not YAML: {error.problem or error.context}")
    except (RecursionError, ValueError):  # nested without end; an escape beyond Unicode
        return _unusable(0, "is not YAML that can be read")
    if node is None or not isinstance(data, dict):
        return _unusable(0, "must be a mapping with name, title, version, sections, …")
    lines: dict[Path, int] = {}
    twice = tuple(_locate(node, lines))
    sections, refusals = data.get("sections"), data.get("refusals")
    parsed = ParsedManifest(
        None,
        twice,
        lines,
        tuple(s for s in sections if isinstance(s, str)) if isinstance(sections, list) else (),
        tuple(map(str, refusals)) if isinstance(refusals, dict) else (),
    )
    try:
        return replace(parsed, manifest=Manifest.model_validate(data))
    except ValidationError as error:
        return replace(parsed, problems=(*twice, *_invalid(error, parsed)))


def _invalid(error: ValidationError, parsed: ParsedManifest) -> Iterator[Problem]:
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        message = _WORDING.get(item["type"], item["msg"].removeprefix("Value error, "))
        yield Problem(MANIFEST, parsed.line(*item["loc"]), f"{where}: {message}")


def _unusable(line: int, message: str) -> ParsedManifest:
    return ParsedManifest(None, (Problem(MANIFEST, line, message),))


def _locate(root: yaml.Node, lines: dict[Path, int]) -> Iterator[Problem]:
    """Note the line of every place; a key given twice is a problem, since the first would be lost."""
    todo: list[tuple[Path, yaml.Node]] = [((), root)]
    seen: set[int] = set()
    while todo:
        path, node = todo.pop()
        if id(node) in seen:  # an alias: its places have their lines already
            continue
        seen.add(id(node))
        inner: list[tuple[str | int, yaml.Node, yaml.Node]] = []
        if isinstance(node, yaml.MappingNode):
            inner = [(str(key.value), key, value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            inner = [(position, value, value) for position, value in enumerate(node.value)]
        for name, mark, value in inner:
            place = (*path, name)
            line = mark.start_mark.line + 1
            if place in lines:
                yield Problem(MANIFEST, line, f"{name!r} is already at line {lines[place]}")
            lines.setdefault(place, line)
            todo.append((place, value))
