from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.policy.load import default_policy_folder, load_policy
from guard.policy.model import Clause, Example, Policy, Ruling, Section, digest
from tests.unit.policy.small import GARDENS, MANIFEST, changed, small_policy

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
POLICY = small_policy()
CLAUSE = POLICY.clauses["GA2"]
SECTION = POLICY.section["gardens"]

OTHER_CLAUSE: dict[str, Any] = {
    "id": "GA9",
    "ruling": Ruling.COMPLY,
    "text": "Help.",
    "exceptions": ("the tree is dead", "."),
}
OTHER_SECTION: dict[str, Any] = {
    "id": "parks",
    "title": "Parks",
    "summary": "Grow.",
    "definitions": "",
    "clauses": SECTION.clauses[::-1],
    "why": "",
    "safe_completion": "Be kind.",
    "examples": (*SECTION.examples, Example("Why?", Ruling.COMPLY, "GA1")),
}
OTHER_POLICY: dict[str, Any] = {
    "name": "large",
    "title": "A large policy",
    "version": "2",
    "precedence": ("First.",),
    "principles": (),
    "styles": {**POLICY.styles, Ruling.REFUSE: "Say no twice."},
    "refusals": {**POLICY.refusals, "gardens": "No."},
    "sections": POLICY.sections[::-1],
}


@pytest.mark.parametrize(
    ("whole", "other"),
    [(CLAUSE, OTHER_CLAUSE), (SECTION, OTHER_SECTION), (POLICY, OTHER_POLICY)],
    ids=["clause", "section", "policy"],
)
def test_a_digest_changes_with_every_field(whole: Clause | Section | Policy, other: dict[str, Any]) -> None:
    """Nothing that a policy says can change without its digest."""
    digests = {replace(whole, **{name: value}).digest for name, value in other.items()}

    assert [field.name for field in fields(whole)] == list(other)
    assert len(digests | {whole.digest}) == len(other) + 1


def test_a_policy_digest_changes_with_every_clause_and_example() -> None:
    """The digests of the parts go into that of the whole."""
    edits = [
        changed("gardens.md", "grow plants", "raise plants"),
        changed("gardens.md", "the tree is dead", "the tree is ill"),
        changed("gardens.md", "a pear", "a plum"),
        changed("kitchens.md", "- **KI2 refuse** How do I oversalt her soup unseen?\n", ""),
        changed("kitchens.md", "freezing times", "freezing time"),
    ]

    assert len({POLICY.digest, *(small_policy(files).digest for files in edits)}) == len(edits) + 1


def test_a_change_in_one_section_keeps_the_digest_of_the_other() -> None:
    """So a trained model knows which sections it still has learnt."""
    policy = small_policy(changed("gardens.md", "a pear", "a plum"))

    assert policy.section["kitchens"].digest == POLICY.section["kitchens"].digest
    assert policy.section["gardens"].digest != POLICY.section["gardens"].digest
    assert policy.clauses["GA1"].digest == POLICY.clauses["GA1"].digest


def test_a_digest_does_not_depend_on_key_order() -> None:
    """Styles and refusals written in another order say the same."""
    backwards = replace(
        POLICY,
        styles=dict(reversed(dict(POLICY.styles).items())),
        refusals=dict(reversed({**POLICY.refusals, "gardens": "No."}.items())),
    )

    assert backwards.digest == replace(POLICY, refusals={**POLICY.refusals, "gardens": "No."}).digest


def test_a_digest_does_not_depend_on_the_layout_of_files() -> None:
    """Rewrapped, commented and reordered files are the same policy."""
    manifest = "# Mine\n" + MANIFEST.replace('version: "1"', "version:    '1'")
    gardens = GARDENS.replace("how to grow", "how\n  to grow").replace("\n\n", "\n\n\n")

    assert (
        small_policy({**small_files(), "policy.yaml": manifest, "gardens.md": gardens}).digest
        == POLICY.digest
    )


def small_files() -> dict[str, str]:
    """The small policy's files, in another order."""
    return dict(reversed(changed("policy.yaml", "", "").items()))


@given(JSON)
def test_a_digest_is_that_of_canonical_json(value: Any) -> None:
    """Anyone can recompute it: sorted keys, no spaces, UTF-8, sha256 in hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    assert digest(value) == hashlib.sha256(text.encode()).hexdigest()


def test_clauses_and_sections_are_found_by_id() -> None:
    """The indexes agree with the sections."""
    assert {clause_id: section.id for clause_id, section in POLICY.section_of.items()} == {
        "GA1": "gardens",
        "GA2": "gardens",
        "KI1": "kitchens",
        "KI2": "kitchens",
        "KI3": "kitchens",
    }
    assert list(POLICY.clauses) == list(POLICY.section_of)
    assert list(POLICY.section.values()) == list(POLICY.sections)


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ((), "No."),
        (("gardens",), "No."),
        (("kitchens",), "Not here."),
        (("gardens", "kitchens"), "Not here."),
    ],
)
def test_a_refusal_is_that_of_the_first_section_that_has_one(
    sections: tuple[str, ...], expected: str
) -> None:
    """Else the default."""
    policy = replace(POLICY, refusals={"default": "No.", "kitchens": "Not here."})

    assert policy.refusal(sections) == expected


def test_the_default_policy_has_the_sections_that_were_promised() -> None:
    """Every subject is covered, each with clauses of both kinds."""
    policy = load_policy(default_policy_folder())

    assert set(policy.section) == {
        "illicit-behaviour", "violence", "self-harm", "sexual-content", "minors-safety", "harassment-hate",
        "extremism", "privacy", "regulated-advice", "deception-fraud", "mass-destruction", "cybersecurity",
        "copyright", "elections-misinformation", "system-integrity", "transformations",
    }  # fmt: skip
    for section in policy.sections:
        assert {Ruling.COMPLY, Ruling.REFUSE} <= {clause.ruling for clause in section.clauses}, section.id
