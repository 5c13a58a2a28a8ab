from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guard.errors import PolicyError
from guard.policy.load import parse_policy
from guard.policy.manifest import read_manifest
from tests.unit.policy.small import FILES, MANIFEST, changed, problems_of, small_policy

ONE_PROBLEM = {
    "an unknown key": (
        "title: A",
        "titel: A",
        ["policy.yaml: title: is missing", "policy.yaml:2: titel: is not a known key"],
    ),
    "a missing style": ("  refuse: Say no.\n", "", ["policy.yaml:8: styles.refuse: is missing"]),
    "an unknown style": (
        "refuse: Say",
        "deny: Say",
        ["policy.yaml:11: styles.deny: is not a known key", "policy.yaml:8: styles.refuse: is missing"],
    ),
    "styles as a list": (
        "styles:\n",
        "styles: []\nx:\n",
        ["policy.yaml:8: styles: must be a mapping", "policy.yaml:9: x: is not a known key"],
    ),
    "an empty title": ("title: A small policy", "title:", ["policy.yaml:2: title: is empty"]),
    "a title of white space": ("A small policy", '"  "', ["policy.yaml:2: title: is empty"]),
    "a title as a list": ("A small policy", "[a]", ["policy.yaml:2: title: must be text"]),
    "a control character": (
        "A small policy",
        r'"a\e[31mb"',
        ["policy.yaml:2: title: holds the control character U+001B"],
    ),
    "half of a surrogate pair": (
        "A small policy",
        r'"\ud83d"',
        ["policy.yaml:2: title: holds half of a surrogate pair"],
    ),
    "a name with a space": (
        "name: small",
        "name: a b",
        ["policy.yaml:1: name: must be lower-case letters, digits and hyphens, beginning with a letter"],
    ),
    "no precedence": (
        "precedence:\n  - Exceptions come first.",
        "precedence: []",
        ["policy.yaml:4: precedence: is empty"],
    ),
    "precedence as text": (
        "precedence:\n  - Exceptions come first.",
        "precedence: first",
        ["policy.yaml:4: precedence: must be a list"],
    ),
    "an empty principle": (
        "  - Be useful.",
        "  - Be useful.\n  -",
        ["policy.yaml:8: principles.1: is empty"],
    ),
    "a refusal that is a list": (
        "default: I'm sorry, but I can't help with that.",
        "default: [a]",
        ["policy.yaml:13: refusals.default: must be text"],
    ),
    "no default refusal": (
        "default: I'm",
        "gardens: I'm",
        ["policy.yaml:12: refusals: the text 'default' is missing"],
    ),
    "a refusal for no section": (
        "refusals:\n",
        "refusals:\n  attic: No.\n",
        ["policy.yaml:13: refusals: 'attic' is not a section"],
    ),
    "a section listed twice": (
        "  - kitchens",
        "  - kitchens\n  - gardens",
        ["policy.yaml:17: lists section 'gardens' twice"],
    ),
    "a section that is absent": (
        "  - kitchens",
        "  - kitchens\n  - attic",
        ["policy.yaml:17: lists section 'attic', but attic.md is absent"],
    ),
    "a section outside the folder": (
        "  - kitchens",
        "  - kitchens\n  - ../attic",
        ["policy.yaml:17: lists section '../attic', but ../attic.md is absent"],
    ),
    "a file that is not listed": (
        "  - kitchens\n",
        "",
        ["kitchens.md: is not listed under sections in policy.yaml"],
    ),
    "a key given twice": (
        "version:",
        "title: Another\nversion:",
        ["policy.yaml:3: 'title' is already at line 2"],
    ),
    "an inner key given twice": (
        "  refuse: Say no.",
        "  refuse: Say no.\n  refuse: Say so.",
        ["policy.yaml:12: 'refuse' is already at line 11"],
    ),
}


@pytest.mark.parametrize(("old", "new", "expected"), ONE_PROBLEM.values(), ids=ONE_PROBLEM)
def test_every_problem_of_the_manifest_has_its_line(old: str, new: str, expected: list[str]) -> None:
    """A value that cannot be used is named with its place and what is wrong, in words."""
    assert sorted(problems_of(changed("policy.yaml", old, new))) == expected


NOT_YAML = {
    "a tab": (
        "name: x\ntitle:\ty",
        "policy.yaml:2: is not YAML: found character '\\t' that cannot start any token",
    ),
    "an open quote": ('name: "a\n', "policy.yaml:2: is not YAML: found unexpected end of stream"),
    "two documents": ("a: b\n---\nc: d\n", "policy.yaml:2: is not YAML: but found another document"),
    "a list as key": ("? [a]\n: b\n", "policy.yaml:1: is not YAML: found unhashable key"),
    "an alias without anchor": ("\na: *b\n", "policy.yaml:2: is not YAML: found undefined alias 'b'"),
    "an endless alias": ("a: &a [*a]\n", "policy.yaml:1: is not YAML: found unconstructable recursive node"),
    "a control character": (
        "a: b\nc: \x07\n",
        "policy.yaml:2: is not YAML: holds the control character U+0007",
    ),
    "nesting without end": ("[" * 5000, "policy.yaml: is not YAML that can be read"),
    "an escape beyond Unicode": (r'a: "\U00ffffff"', "policy.yaml: is not YAML that can be read"),
    "a list": ("- a\n", "policy.yaml: must be a mapping with name, title, version, sections, …"),
    "a word": ("hello", "policy.yaml: must be a mapping with name, title, version, sections, …"),
    "nothing": ("", "policy.yaml: must be a mapping with name, title, version, sections, …"),
    "a comment": ("# later\n", "policy.yaml: must be a mapping with name, title, version, sections, …"),
}


@pytest.mark.parametrize(("text", "expected"), NOT_YAML.values(), ids=NOT_YAML)
def test_what_is_not_a_yaml_mapping_is_one_problem(text: str, expected: str) -> None:
    """A manifest that cannot be parsed says where, and nothing else is made up from it."""
    assert problems_of({**FILES, "policy.yaml": text}) == [expected]


@pytest.mark.parametrize("written", ["1.10", "2026-02-30", "1_000", "0x10", "yes", "1e3", "2", "v1.0 beta"])
def test_a_version_is_taken_as_it_is_written(written: str) -> None:
    """YAML's numbers, dates and booleans are text here."""
    files = changed("policy.yaml", 'version: "1"', f"version: {written}")

    assert small_policy(files).version == written


def test_all_problems_of_all_files_are_told_at_once() -> None:
    """One check shows everything that is to be mended."""
    files = changed("policy.yaml", "title: A", "titel: A")
    files = changed("policy.yaml", "  - kitchens", "  - attic", files)
    files = changed("gardens.md", "**GA1 comply** Explain", "**GA1 allow** Explain", files)
    files = changed("kitchens.md", "## Why", "## Reasons", files)

    assert problems_of(files) == [
        "gardens.md:11: ruling 'allow' is not one of comply, safe_complete, refuse",
        "kitchens.md: is not listed under sections in policy.yaml",
        "kitchens.md: part '## Why' is missing or empty",
        "kitchens.md:15: unknown heading 'Reasons'; use Definitions, Clauses, Why, Examples, Safe completion",
        "policy.yaml: title: is missing",
        "policy.yaml:2: titel: is not a known key",
        "policy.yaml:16: lists section 'attic', but attic.md is absent",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + MANIFEST,
        MANIFEST.replace("\n", "\r\n"),
        MANIFEST.replace("\n", "\r"),
        "---\n" + MANIFEST + "...\n",
        "# why\n" + MANIFEST.replace("title: A small policy", "title: >-\n  A small\n  policy"),
        MANIFEST.replace("title: A small policy", "title: |\n  A small policy\n"),
        MANIFEST.replace("- Be useful.", "- &useful Be useful."),
        "".join(sorted(MANIFEST.splitlines(keepends=True)[:3], reverse=True))
        + "".join(MANIFEST.splitlines(keepends=True)[3:]),
    ],
    ids=["byte order mark", "CRLF", "CR", "document marks", "folded", "literal", "anchor", "key order"],
)
def test_the_same_manifest_however_it_is_written(text: str) -> None:
    """Encoding marks, line ends, YAML styles and the order of keys change nothing."""
    assert small_policy({**FILES, "policy.yaml": text}).digest == small_policy().digest


def test_aliases_do_not_multiply_the_work() -> None:
    """A manifest of nested aliases is refused as quickly as any other."""
    levels = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))]

    assert len(read_manifest("\n".join(levels)).problems) == 60 + 8


@given(st.text(st.characters(codec="utf-8"), max_size=80))
@example("a: !!python/object/apply:os.system [x]")
@example("<<: {a: b}")
@example("a: !!int x")
@example("\x85")
def test_any_text_is_a_manifest_or_a_policy_error(text: str) -> None:
    """No text makes the loader fail in another way."""
    with pytest.raises(PolicyError):
        parse_policy({**FILES, "policy.yaml": text})
