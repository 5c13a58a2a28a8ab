from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.policy.model import Clause, Example, Ruling, Section
from guard.policy.section import ParsedSection, parse_section
from tests.unit.policy.small import GARDENS, KITCHENS


def parsed(old: str = "", new: str = "") -> ParsedSection:
    """The gardens section with one passage replaced."""
    assert old in GARDENS, old

    return parse_section("gardens", GARDENS.replace(old, new, 1) if old else GARDENS)


def problems(old: str, new: str) -> list[str]:
    """What is wrong after a replacement, in file order."""
    return [f"{problem.line}: {problem.message}" for problem in sorted(parsed(old, new).problems)]


def test_a_section_is_read_as_written() -> None:
    """Every part of the file is in the section."""
    assert parsed() == ParsedSection(
        Section(
            id="gardens",
            title="Gardens",
            summary="Grow things.",
            definitions="- **Weed**: a plant in the wrong place.",
            clauses=(
                Clause("GA1", Ruling.COMPLY, "Explain how to grow plants."),
                Clause("GA2", Ruling.REFUSE, "Help to poison a neighbour's tree.", ("the tree is dead.",)),
            ),
            why="Trees take long to grow.",
            safe_completion="",
            examples=(
                Example("How do I prune a pear?", Ruling.COMPLY, "GA1"),
                Example("Which salt kills his oak?", Ruling.REFUSE, "GA2"),
                Example("Which salt rots a dead stump?", Ruling.COMPLY, "GA2"),
            ),
        ),
        problems=(),
        lines=(("GA1", 11), ("GA2", 12)),
    )


def test_a_safe_completion_style_is_read() -> None:
    """The optional part is there where it is written."""
    assert parse_section("kitchens", KITCHENS).section.safe_completion == "Name the freezing times."


PROBLEMS = {
    "no title": ("# Gardens\n", "", ["1: must begin with '# Title'"]),
    "an empty title": ("# Gardens", "#", ["1: must begin with '# Title'"]),
    "a comment before the title": (
        "# Gardens",
        "<!-- x -->\n# Gardens",
        [
            "1: must begin with '# Title'",
            "2: unknown heading 'Gardens'; use Definitions, Clauses, Why, Examples, Safe completion",
        ],
    ),
    "no summary": ("Grow things.\n", "", ["1: needs a one-line summary under the title"]),
    "a list as summary": ("Grow things.", "- Grow", ["1: needs a one-line summary under the title"]),
    "two summaries": (
        "Grow things.",
        "Grow.\n\nThings.",
        ["5: only one summary paragraph before the first '##'"],
    ),
    "a subheading before the parts": (
        "Grow things.",
        "Grow things.\n\n### Note\n\nLost?",
        [
            "5: only one summary paragraph before the first '##'",
            "7: only one summary paragraph before the first '##'",
        ],
    ),
    "a second title": (
        "## Why",
        "# Why",
        ["15: unknown heading 'Why'; use Definitions, Clauses, Why, Examples, Safe completion"],
    ),
    "an unknown part": (
        "## Why",
        "## why",
        [
            "0: part '## Why' is missing or empty",
            "15: unknown heading 'why'; use Definitions, Clauses, Why, Examples, Safe completion",
        ],
    ),
    "an empty part": ("Trees take long to grow.\n", "", ["0: part '## Why' is missing or empty"]),
    "a part twice": ("## Examples", "## Why\n\nx\n\n## Examples", ["19: heading 'Why' appears twice"]),
    "a paragraph among the clauses": (
        "- **GA1 comply** Explain how to grow plants.\n",
        "- **GA1 comply** Explain how to grow plants.\n\nMind:\n\n",
        ["13: only list items '- **SH1 comply** Text.' stand here"],
    ),
    "a numbered list of clauses": (
        "## Examples\n",
        "## Examples\n\n1. **GA1 comply** Why?\n",
        ["21: only list items '- **SH1 comply** Text.' stand here"],
    ),
    "a clause without label": (
        "- **GA1 comply** Explain",
        "- Explain",
        ["11: must read '- **SH1 comply** Text.'", "21: example cites GA1, not a clause of this file"],
    ),
    "a clause without text": (
        "- **GA1 comply** Explain how to grow plants.",
        "- **GA1 comply**",
        ["11: must read '- **SH1 comply** Text.'", "21: example cites GA1, not a clause of this file"],
    ),
    "an empty clause": (
        "- **GA1 comply** Explain how to grow plants.",
        "-",
        ["11: must read '- **SH1 comply** Text.'", "21: example cites GA1, not a clause of this file"],
    ),
    "an unknown ruling": (
        "- **GA1 comply** Explain",
        "- **GA1 Comply** Explain",
        ["11: ruling 'Comply' is not one of comply, safe_complete, refuse"],
    ),
    "a malformed id": (
        "- **GA1 comply** Explain",
        "- **GA01 comply** Explain",
        ["11: clause id 'GA01' must look like SH3", "21: example cites GA1, not a clause of this file"],
    ),
    "an exception without text": (
        "- Except: the tree is dead.",
        "- Except:",
        [
            "13: under a clause only '- Except: text' may stand",
            "23: example says comply, but GA2 says refuse without exception",
        ],
    ),
    "an empty exception": (
        "  - Except: the tree is dead.",
        "  - Except: the tree is dead.\n  -",
        ["14: under a clause only '- Except: text' may stand"],
    ),
    "a note under a clause": (
        "- Except: the tree is dead.",
        "- Except: the tree is dead.\n  - Mind the roots.",
        ["14: under a clause only '- Except: text' may stand"],
    ),
    "a list under an exception": (
        "- Except: the tree is dead.",
        "- Except: the tree is dead.\n    - or ill",
        [
            "13: under a clause only '- Except: text' may stand",
            "24: example says comply, but GA2 says refuse without exception",
        ],
    ),
    "code under a clause": (
        "  - Except: the tree is dead.",
        "  - Except: the tree is dead.\n\n  ```\n  salt\n  ```",
        ["15: under a clause only '- Except: text' may stand"],
    ),
    "a list of code under a clause": (
        "- Except: the tree is dead.",
        "- Except: the tree is dead.\n  - ```\n    salt\n    ```",
        ["14: under a clause only '- Except: text' may stand"],
    ),
    "an example of another section": (
        "- **GA1 comply** How",
        "- **KI1 comply** How",
        ["21: example cites KI1, not a clause of this file"],
    ),
    "an example against its clause": (
        "- **GA1 comply** How",
        "- **GA1 refuse** How",
        ["21: example says refuse, but GA1 says comply without exception"],
    ),
    "an example with a list": (
        "How do I prune a pear?",
        "How do I prune:\n  - a pear",
        ["22: an example is one paragraph"],
    ),
    "an example with code": (
        "How do I prune a pear?",
        "What is this?\n\n  ```\n  pear\n  ```",
        ["23: an example is one paragraph"],
    ),
    "a control character": ("pear", "pe\x1b[31mar", ["21: holds the control character U+001B"]),
    "a line separator": (
        "plant in",
        "plant\u2028in",
        ["7: holds the control character U+2028"],
    ),
}


@pytest.mark.parametrize(("old", "new", "expected"), PROBLEMS.values(), ids=PROBLEMS)
def test_every_problem_of_a_section_has_its_line(old: str, new: str, expected: list[str]) -> None:
    """What the format does not allow is told where it stands, and nothing is dropped in silence."""
    assert problems(old, new) == expected


@pytest.mark.parametrize("section_id", ["Gardens", "gar dens", "-gardens", "gardens-", "1st", "gär", ""])
def test_a_section_file_has_a_plain_name(section_id: str) -> None:
    """Ids appear in URLs, records and headers."""
    assert [problem.message for problem in parse_section(section_id, GARDENS).problems] == [
        "section ids are lower-case words joined by hyphens"
    ]


SAME = {
    "wrapped lines": ("Explain how to grow plants.", "Explain how\n  to grow\nplants."),
    "a wrapped definition": ("a plant in the wrong place.", "a plant\n  in the\nwrong place."),
    "a wrapped reason": ("Trees take long to grow.", "Trees take\nlong to grow."),
    "a wrapped example": ("How do I prune a pear?", "How do I\n  prune a pear?"),
    "a wrapped exception": ("Except: the tree is dead.", "Except: the\n    tree is dead."),
    "a wrapped summary": ("Grow things.", "Grow\nthings."),
    "other bullets": ("- **Weed**", "* **Weed**"),
    "an underlined title": ("# Gardens", "Gardens\n======="),
    "an underlined part": ("## Why", "Why\n---"),
    "closed headings": ("## Why", "## Why ##"),
    "except in lower case": ("Except:", "except:"),
    "loose lists": ("plants.\n- **GA2", "plants.\n\n- **GA2"),
    "parts in another order": (
        "## Definitions\n\n- **Weed**: a plant in the wrong place.\n\n## Clauses",
        "## Clauses",
    ),
}


@pytest.mark.parametrize(("old", "new"), SAME.values(), ids=SAME)
def test_the_layout_of_a_file_does_not_change_its_section(old: str, new: str) -> None:
    """Rewrapping a file or another way to write Markdown is no new policy."""
    assert old in GARDENS
    text = GARDENS.replace(old, new, 1)
    if "## Definitions" not in text:
        text += "\n## Definitions\n\n- **Weed**: a plant in the wrong place.\n"

    assert parse_section("gardens", text).section.digest == parsed().section.digest


def test_headings_inside_code_are_not_headings() -> None:
    """A fence in a definition is kept as it is, blank lines aside."""
    fence = "```\n# Not a title\n\n## Clauses\n- **GA9 refuse** Nothing.\n```"
    section = parsed("- **Weed**: a plant in the wrong place.", fence)

    assert section.problems == ()
    assert section.section.definitions == fence.replace("\n\n", "\n")


def test_nested_lists_in_definitions_keep_their_shape() -> None:
    """One line an item, deeper ones indented, numbers kept."""
    nested = (
        "* **Weed**: wrong\n  place.\n    1. on a path\n    2. in a bed\n\n  Roots count.\n\nA *plant* grows."
    )
    section = parsed("- **Weed**: a plant in the wrong place.", nested)

    assert section.problems == ()
    assert section.section.definitions == (
        "- **Weed**: wrong place.\n  1. on a path\n  2. in a bed\n  Roots count.\nA *plant* grows."
    )


def test_a_line_that_looks_like_a_link_definition_is_kept() -> None:
    """Markdown would swallow it without a trace."""
    section = parsed("- **Weed**: a plant in the wrong place.", "[Weed]: a-plant")

    assert section.section.definitions == "[Weed]: a-plant"


def test_a_list_as_reason_is_read_as_a_sentence() -> None:
    """The prompt has one line for it."""
    assert parsed("Trees take long to grow.", "- Trees\n- grow").section.why == "- Trees - grow"


def test_every_clause_id_knows_its_line_even_if_it_stands_twice() -> None:
    """So that the second place can be named."""
    twice = parsed("## Why", "- **GA1 refuse** Again.\n\n## Why")

    assert twice.lines == (("GA1", 11), ("GA2", 12), ("GA1", 15))


def test_an_empty_file_lacks_everything() -> None:
    """All of it is told."""
    assert [(problem.line, problem.message) for problem in parse_section("gardens", "").problems] == [
        (1, "must begin with '# Title'"),
        (0, "part '## Definitions' is missing or empty"),
        (0, "part '## Clauses' is missing or empty"),
        (0, "part '## Why' is missing or empty"),
        (0, "part '## Examples' is missing or empty"),
    ]


SNIPPETS = ["\n", "  ", "- ", "# ", "## ", "```\n", "> ", "1. ", "\t", "*", "\\", "<b>", "[a]: b\n"]
SNIPPETS += ["---\n", "    x\n", "é\u200b", "- Except: y\n", *GARDENS.splitlines(keepends=True)]
MARKDOWN = st.lists(st.sampled_from(SNIPPETS), max_size=25).map("".join)


@given(MARKDOWN)
def test_any_markdown_is_a_section_or_has_problems(text: str) -> None:
    """No text makes the reader fail, and lines lie within the file."""
    read = parse_section("gardens", text)

    assert all(0 <= problem.line <= text.count("\n") + 1 for problem in read.problems)
    assert read.problems or read.section.clauses
