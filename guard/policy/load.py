"""Read a policy folder: ``policy.yaml`` (see manifest.py) and one Markdown file per section (section.py).

Every problem is collected with its file and line, and raised together as one PolicyError. Sections
whose text did not change since the last load are taken from a cache, so that a reload costs what
was edited.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from guard.errors import PolicyError, Problem
from guard.policy.manifest import MANIFEST, Manifest, ParsedManifest, read_manifest
from guard.policy.model import Policy, Ruling
from guard.policy.section import ParsedSection, parse_section

__all__ = [
    "MANIFEST",
    "MAX_FILE_BYTES",
    "SectionCache",
    "default_policy_folder",
    "load_policy",
    "parse_policy",
    "read_policy_files",
    "section_texts",
]

MAX_FILE_BYTES = 1_000_000
"""A larger file is not a policy's; reading it would stall a reload."""

_SWAPPED = "..data"
"""The link that Kubernetes turns to a new folder when a ConfigMap changes."""


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


def default_policy_folder() -> Path:
    """The policy that comes with the package: the repository's, else the copy in the installed package."""
    package = Path(__file__).resolve().parent.parent
    beside = package.parent / "specs" / "default"
    return beside if (beside / MANIFEST).is_file() else package / "specs" / "default"


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

    Hidden files are left out (editors keep locks and backups there). A mounted ConfigMap is read
    through its link once, so that no file of an older version gets among those of a newer one.

    Raises:
        PolicyError: The folder, the manifest or a file cannot be read.
    """
    try:
        source = _source(folder)
        names = sorted({MANIFEST, *(path.name for path in source.glob("*.md"))})
    except OSError as error:
        raise PolicyError([Problem(str(folder), 0, f"cannot be read: {error.strerror}")]) from error
    files: dict[str, str] = {}
    problems: list[Problem] = []
    for name in names:
        if name.startswith(".") or name.lower() == "readme.md":
            continue
        try:
            files[name] = _read(source / name, str(folder / name))
        except PolicyError as error:
            problems.extend(error.problems)
    if problems:
        raise PolicyError(problems)
    return files


def _source(folder: Path) -> Path:
    """Where a policy folder's files are: itself, or what a mounted ConfigMap's link means now."""
    if not folder.is_dir():
        raise PolicyError([Problem(str(folder), 0, "no such policy folder")])
    swapped = folder / _SWAPPED
    source = swapped.resolve() if (swapped / MANIFEST).is_file() else folder
    if not (source / MANIFEST).is_file():
        raise PolicyError([Problem(str(folder), 0, f"holds no {MANIFEST}")])
    return source


def _read(path: Path, place: str) -> str:
    """One file's text; ``place`` names it in problems."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
            raise PolicyError([Problem(place, 0, "is not a regular file")])
        if status.st_size > MAX_FILE_BYTES:
            message = f"is larger than {MAX_FILE_BYTES:,} bytes; split the section"
            raise PolicyError([Problem(place, 0, message)])
        data = path.read_bytes()
    except OSError as error:
        raise PolicyError([Problem(place, 0, f"cannot be read: {error.strerror}")]) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PolicyError([Problem(place, line, "is not UTF-8 text")]) from error


def section_texts(files: Mapping[str, str]) -> dict[str, str]:
    """The section files among these, by section id."""
    return {name.removesuffix(".md"): text for name, text in files.items() if name.endswith(".md")}


def parse_policy(
    files: Mapping[str, str], folder: Path = Path(), cache: SectionCache | None = None
) -> Policy:
    """Make a policy of file texts by name; ``folder`` only serves to name places in problems.

    Raises:
        PolicyError: With every problem found.
    """
    head = read_manifest(files.get(MANIFEST, ""))
    texts = section_texts(files)
    parsed = (SectionCache() if cache is None else cache).parse(texts)
    problems = [*head.problems, *_check_ids(parsed)]
    for part in parsed.values():
        problems.extend(part.problems)
    problems.extend(_check_listing(head, frozenset(texts)))
    if problems or head.manifest is None:
        raise PolicyError([Problem(str(folder / p.file), p.line, p.message) for p in problems])
    return _policy(head.manifest, parsed)


def _policy(manifest: Manifest, parsed: Mapping[str, ParsedSection]) -> Policy:
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


def _check_listing(head: ParsedManifest, present: frozenset[str]) -> Iterator[Problem]:
    """Files and manifest name the same sections; refusal texts name known ones."""
    if not head.sections:  # said already, and every file would seem to be too many
        return
    listed: set[str] = set()
    for position, section in enumerate(head.sections):
        line = head.line("sections", position)
        if section in listed:
            yield Problem(MANIFEST, line, f"lists section {section!r} twice")
        elif section not in present:
            yield Problem(MANIFEST, line, f"lists section {section!r}, but {section}.md is absent")
        listed.add(section)
    for key in head.refusals:
        if key not in {"default", *listed}:
            yield Problem(MANIFEST, head.line("refusals", key), f"refusals: {key!r} is not a section")
    if head.refusals and "default" not in head.refusals:
        yield Problem(MANIFEST, head.line("refusals"), "refusals: the text 'default' is missing")
    for section in present - listed:
        yield Problem(f"{section}.md", 0, f"is not listed under sections in {MANIFEST}")


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
