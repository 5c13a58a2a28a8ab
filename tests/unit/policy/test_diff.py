from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import orjson
import pytest

from guard.policy.diff import (
    Caution,
    Change,
    ClauseChange,
    PolicyDiff,
    TextChange,
    Version,
    diff,
)
from guard.policy.display import diff_json, diff_view
from guard.policy.load import default_policy_folder, load_policy
from guard.policy.model import Clause, Example, Policy, Ruling
from tests.unit.policy.small import FILES, GARDENS, KITCHENS, changed, small_policy

OLD = small_policy()


def to(files: Mapping[str, str], earlier: tuple[Policy, ...] = ()) -> PolicyDiff:
    """The difference from the small policy to another."""
    return diff(OLD, small_policy(files), earlier)


def clause_changes(files: Mapping[str, str]) -> dict[str, tuple[Change, ...]]:
    """What happened to each clause that differs."""
    return {clause.id: clause.changes for section in to(files).sections for clause in section.clauses}


def cautions(files: Mapping[str, str], earlier: tuple[Policy, ...] = ()) -> list[tuple[Caution, str]]:
    """What is called out, and at which id."""
    return [(warned.caution, warned.clause) for warned in to(files, earlier).warned]


def test_the_same_policy_has_no_difference() -> None:
    """However its files are laid out."""
    found = to(changed("gardens.md", "Grow things.", "Grow\nthings."))

    assert found.same
    assert (found.manifest, found.sections, found.warned) == ((), (), ())
    assert diff_view(found).plain == f"The same policy: small 1, digest {OLD.digest}"


def test_versions_are_named_by_their_digests() -> None:
    """So that a difference can be filed with records."""
    found = to(changed("policy.yaml", 'version: "1"', 'version: "2"'))

    assert found.old == Version("small", "1", OLD.digest)
    assert (found.new.name, found.new.version) == ("small", "2")
    assert found.manifest == (TextChange("version", "1", "2"),)


CHANGES = {
    "text": (
        "Explain how to grow plants.",
        "Explain how to grow plants and mosses.",
        {"GA1": (Change.TEXT,)},
    ),
    "ruling": ("**GA1 comply** Explain", "**GA1 safe_complete** Explain", {"GA1": (Change.RULING,)}),
    "exceptions": ("the tree is dead.", "the tree is dead or dying.", {"GA2": (Change.EXCEPTIONS,)}),
    "all of a clause": (
        "- **GA2 refuse** Help to poison a neighbour's tree.\n  - Except: the tree is dead.",
        "- **GA2 comply** Help to poison your own tree.",
        {"GA2": (Change.RULING, Change.TEXT, Change.EXCEPTIONS)},
    ),
    "added": ("## Why", "- **GA3 comply** Talk to bees.\n\n## Why", {"GA3": (Change.ADDED,)}),
    "nothing of a clause": ("a pear", "a plum", {}),
}


@pytest.mark.parametrize(("old", "new", "expected"), CHANGES.values(), ids=CHANGES)
def test_changes_of_a_clause_are_told_apart(old: str, new: str, expected: dict[str, tuple[Change]]) -> None:
    """By what the change means for those who cite it."""
    files = changed("gardens.md", old, new)
    for ruling in ("refuse", "comply"):  # examples follow their clause where they must
        if "GA1 safe_complete" in new:
            files["gardens.md"] = files["gardens.md"].replace(
                f"GA1 {ruling}** How", "GA1 safe_complete** How"
            )
        elif "GA2 comply" in new:
            files["gardens.md"] = files["gardens.md"].replace("GA2 refuse** Which", "GA2 comply** Which")

    assert clause_changes(files) == expected


def test_a_removed_clause_is_kept_in_the_difference() -> None:
    """With the words that records still cite."""
    files = changed("kitchens.md", "- **KI2 refuse** Help to spoil another cook's dish.\n", "")
    files = changed("kitchens.md", "- **KI2 refuse** How do I oversalt her soup unseen?\n", "", files)
    (section,) = to(files).sections
    gone = Clause("KI2", Ruling.REFUSE, "Help to spoil another cook's dish.")

    assert section.clauses == (ClauseChange("KI2", (Change.REMOVED,), gone, None),)
    assert section.examples_removed == (Example("How do I oversalt her soup unseen?", Ruling.REFUSE, "KI2"),)
    assert section.texts == ()


def test_texts_of_a_section_are_compared_one_by_one() -> None:
    """Title, summary, definitions, reason and style."""
    files = changed("kitchens.md", "# Kitchens", "# Cooking")
    files = changed("kitchens.md", "Cook things.", "Cook.", files)
    files = changed("kitchens.md", "where food is made", "any hearth", files)
    files = changed("kitchens.md", "Guests trust the cook.", "Guests eat.", files)
    files = changed("kitchens.md", "## Safe completion\n\nName the freezing times.\n\n", "", files)
    (section,) = to(files).sections

    assert (section.id, section.change) == ("kitchens", Change.CHANGED)
    assert section.old_digest == OLD.section["kitchens"].digest
    assert section.new_digest == small_policy(files).section["kitchens"].digest
    assert section.texts == (
        TextChange("title", "Kitchens", "Cooking"),
        TextChange("summary", "Cook things.", "Cook."),
        TextChange("definitions", "A kitchen is where food is made.", "A kitchen is any hearth."),
        TextChange("why", "Guests trust the cook.", "Guests eat."),
        TextChange("safe completion", "Name the freezing times.", ""),
    )


def test_changed_examples_are_told_as_old_and_new() -> None:
    """A new ruling makes another example."""
    files = changed("gardens.md", "**GA2 comply** Which salt rots", "**GA2 refuse** Which salt rots")
    (section,) = to(files).sections
    stump = Example("Which salt rots a dead stump?", Ruling.COMPLY, "GA2")

    assert section.examples_removed == (stump,)
    assert section.examples_added == (Example(stump.prompt, Ruling.REFUSE, "GA2"),)


MANIFEST_CHANGES = {
    "name": ("name: small", "name: tiny", TextChange("name", "small", "tiny")),
    "title": ("A small policy", "Small", TextChange("title", "A small policy", "Small")),
    "precedence": (
        "  - Exceptions come first.",
        "  - Exceptions come first.\n  - Then luck.",
        TextChange("precedence 2", "", "Then luck."),
    ),
    "principle": ("Be useful.", "Be kind.", TextChange("principle 1", "Be useful.", "Be kind.")),
    "style": ("Say no.", "Say no once.", TextChange("style refuse", "Say no.", "Say no once.")),
    "refusal": ("refusals:", "refusals:\n  gardens: No.", TextChange("refusal gardens", "", "No.")),
    "order": (
        "  - gardens\n  - kitchens",
        "  - kitchens\n  - gardens",
        TextChange("order of sections", "gardens, kitchens", "kitchens, gardens"),
    ),
}


@pytest.mark.parametrize(("old", "new", "expected"), MANIFEST_CHANGES.values(), ids=MANIFEST_CHANGES)
def test_every_part_of_the_manifest_is_compared(old: str, new: str, expected: TextChange) -> None:
    """Each with its old and new text."""
    found = to(changed("policy.yaml", old, new))

    assert found.manifest == (expected,)
    assert found.sections == ()


def test_a_new_section_shows_all_it_brings() -> None:
    """And a removed one all that goes; the order of the others is no change."""
    without = {**FILES, "policy.yaml": FILES["policy.yaml"].replace("  - gardens\n", "")}
    del without["gardens.md"]
    added, removed = diff(small_policy(without), OLD), diff(OLD, small_policy(without))

    assert [(s.id, s.change, s.old_digest) for s in added.sections] == [("gardens", Change.ADDED, "")]
    assert [(s.id, s.change, s.new_digest) for s in removed.sections] == [("gardens", Change.REMOVED, "")]
    assert [(c.id, c.changes) for c in added.sections[0].clauses] == [
        ("GA1", (Change.ADDED,)),
        ("GA2", (Change.ADDED,)),
    ]
    assert [(c.id, c.changes) for c in removed.sections[0].clauses] == [
        ("GA1", (Change.REMOVED,)),
        ("GA2", (Change.REMOVED,)),
    ]
    assert added.manifest == removed.manifest == ()


def test_clauses_of_a_renamed_section_have_moved() -> None:
    """They are neither new nor gone."""
    files = {"policy.yaml": FILES["policy.yaml"].replace("gardens", "parks"), "parks.md": GARDENS}

    assert clause_changes({**files, "kitchens.md": KITCHENS}) == {
        "GA1": (Change.MOVED,),
        "GA2": (Change.MOVED,),
    }


def test_clauses_in_another_order_are_told_once() -> None:
    """As an order, not as changes of each clause."""
    swapped = changed("gardens.md", "- **GA1 comply** Explain how to grow plants.\n", "")
    swapped = changed(
        "gardens.md", "is dead.\n", "is dead.\n- **GA1 comply** Explain how to grow plants.\n", swapped
    )
    (section,) = to(swapped).sections

    assert section.texts == (TextChange("order of clauses", "GA1, GA2", "GA2, GA1"),)
    assert section.clauses == ()


def test_an_id_that_comes_to_mean_something_else_is_called_out() -> None:
    """Records that cite it would now point at another rule; a rewording is no such thing."""
    reworded = changed(
        "gardens.md", "Explain how to grow plants.", "Explain how plants grow and how to grow them."
    )
    reused = changed("gardens.md", "Explain how to grow plants.", "Warn of wasps, hornets and angry swans.")

    assert cautions(reworded) == []
    assert cautions(reused) == [(Caution.REUSED, "GA1")]


def test_a_clause_that_comes_back_under_another_id_is_called_out() -> None:
    """The old id still stands in records, the new one says the same."""
    files = {**FILES, "kitchens.md": KITCHENS.replace("KI2", "KI4")}

    assert cautions(files) == [(Caution.RENUMBERED, "KI4")]


def test_an_id_that_an_earlier_version_had_is_called_out() -> None:
    """Removed and added again, whatever it says now."""
    files = changed("gardens.md", "## Why", "- **GA3 comply** Talk to bees.\n\n## Why")
    once = small_policy(changed("gardens.md", "## Why", "- **GA3 refuse** Hunt swans.\n\n## Why"))

    assert cautions(files) == []
    assert cautions(files, (OLD, once)) == [(Caution.RETURNED, "GA3")]


def test_rules_of_one_section_are_told_from_rewordings() -> None:
    """Of the default policy's clauses, four in five would be called out under a neighbour's id."""
    policy = load_policy(default_policy_folder())
    told = total = 0
    for section in policy.sections:
        first, *others = section.clauses
        for other in others:
            one, taken = replace(section, clauses=(first,)), replace(first, text=other.text)
            swapped = replace(policy, sections=(replace(section, clauses=(taken,)),))
            told += bool(diff(replace(policy, sections=(one,)), swapped).warned)
            total += 1

    assert told / total > 0.8


def test_a_difference_reads_as_old_and_new_lines() -> None:
    """Under the section and the clause they belong to."""
    files = changed("policy.yaml", 'version: "1"', 'version: "2"')
    files = changed(
        "gardens.md", "Explain how to grow plants.", "Warn of wasps, hornets and angry swans.", files
    )
    files = changed("gardens.md", "the tree is dead.", "the tree is [bold]dead[/bold].", files)
    files = changed("kitchens.md", "- **KI2 refuse** Help to spoil another cook's dish.\n", "", files)
    files = changed("kitchens.md", "- **KI2 refuse** How do I oversalt her soup unseen?\n", "", files)
    found = to(files)

    assert diff_view(found).plain == (
        f"- small 1  {OLD.digest}\n"
        f"+ small 2  {found.new.digest}\n"
        "! GA1 seems to mean something else now; give a new rule a new id\n"
        "\n"
        "policy.yaml\n"
        "  version\n"
        "  - 1\n"
        "  + 2\n"
        "\n"
        "gardens changed\n"
        "  GA1: text\n"
        "  - comply: Explain how to grow plants.\n"
        "  + comply: Warn of wasps, hornets and angry swans.\n"
        "  GA2: exceptions\n"
        "  - Except: the tree is dead.\n"
        "  + Except: the tree is [bold]dead[/bold].\n"
        "\n"
        "kitchens changed\n"
        "  KI2: removed; never use this id again\n"
        "  - refuse: Help to spoil another cook's dish.\n"
        "  - example [KI2] refuse: How do I oversalt her soup unseen?"
    )


def test_a_difference_is_written_as_json() -> None:
    """With every name spelled as in the text."""
    found = to(changed("gardens.md", "Explain how to grow plants.", "Warn of wasps and swans."))
    written = orjson.loads(orjson.dumps(diff_json(found)))

    assert written["same"] is False
    assert written["old"] == {"name": "small", "version": "1", "digest": OLD.digest}
    assert written["warned"][0]["caution"] == "reused"
    assert written["sections"][0]["clauses"] == [
        {
            "id": "GA1",
            "changes": ["text"],
            "old": {"id": "GA1", "ruling": "comply", "text": "Explain how to grow plants.", "exceptions": []},
            "new": {"id": "GA1", "ruling": "comply", "text": "Warn of wasps and swans.", "exceptions": []},
        }
    ]
