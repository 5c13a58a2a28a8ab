from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.deliberation.citations import Citation, CitationStatus
from guard.deliberation.deliberation import Deliberation, Finding, follows, read_deliberation
from guard.policy.load import default_policy_folder, load_policy
from guard.policy.model import Clause, Policy, Ruling, Section

COMPLY, SAFE, REFUSE = Ruling.COMPLY, Ruling.SAFE_COMPLETE, Ruling.REFUSE
CLAUSES = {
    (ruling, excepted): Clause(
        f"PA{number}", ruling, "Walk the dog here.", ("at night.",) if excepted else ()
    )
    for number, (ruling, excepted) in enumerate(product(Ruling, (False, True)), start=1)
}
SECTION = Section("parks", "Parks", "Walk.", "Dogs.", tuple(CLAUSES.values()), "Why.", "", ())
POLICY = Policy("p", "P", "1", ("First.",), ("Be kind.",), {}, {"default": "No."}, (SECTION,))
GIVEN = frozenset({"parks"})


def cited(*clauses: str) -> tuple[Citation, ...]:
    """Citations of these clauses, as checking would give them."""
    return tuple(Citation(clause, CitationStatus.VERIFIED, "", 0, 1, "parks") for clause in clauses)


FOLLOWS = {
    (COMPLY, COMPLY, False): True,
    (COMPLY, COMPLY, True): True,
    (COMPLY, SAFE, False): False,
    (COMPLY, SAFE, True): True,
    (COMPLY, REFUSE, False): False,
    (COMPLY, REFUSE, True): True,
    (SAFE, COMPLY, False): False,
    (SAFE, COMPLY, True): False,
    (SAFE, SAFE, False): True,
    (SAFE, SAFE, True): True,
    (SAFE, REFUSE, False): False,
    (SAFE, REFUSE, True): True,
    (REFUSE, COMPLY, False): False,
    (REFUSE, COMPLY, True): False,
    (REFUSE, SAFE, False): False,
    (REFUSE, SAFE, True): False,
    (REFUSE, REFUSE, False): True,
    (REFUSE, REFUSE, True): True,
}
"""By verdict, ruling of the one cited clause, and whether it has an exception."""


def test_the_table_has_every_combination() -> None:
    """Of verdict, ruling and exception."""
    assert set(FOLLOWS) == set(product(Ruling, Ruling, (False, True)))


@pytest.mark.parametrize(("case", "expected"), FOLLOWS.items(), ids=str)
def test_a_verdict_follows_from_its_clause_or_a_milder_one_from_an_exception(
    case: tuple[Ruling, Ruling, bool], expected: bool
) -> None:
    """An exception makes a clause milder, never stricter."""
    verdict, ruling, excepted = case

    assert follows(verdict, cited(CLAUSES[ruling, excepted].id), POLICY) is expected


@given(st.sampled_from(Ruling), st.lists(st.sampled_from([*CLAUSES]), min_size=1, max_size=4))
def test_one_clause_that_leads_to_the_verdict_is_enough(
    verdict: Ruling, clauses: list[tuple[Ruling, bool]]
) -> None:
    """A thinking weighs clauses against each other."""
    expected = any(FOLLOWS[verdict, ruling, excepted] for ruling, excepted in clauses)

    assert follows(verdict, cited(*(CLAUSES[clause].id for clause in clauses)), POLICY) is expected


@pytest.mark.parametrize("verdict", Ruling)
def test_unknown_clauses_contradict_nothing(verdict: Ruling) -> None:
    """Nor do none at all; but they do not help either."""
    comply, refuse = CLAUSES[COMPLY, False].id, CLAUSES[REFUSE, False].id

    assert follows(verdict, (), POLICY)
    assert follows(verdict, cited("ZZ1"), POLICY)
    assert follows(verdict, cited("ZZ1", comply), POLICY) is (verdict is COMPLY)
    assert follows(verdict, cited("ZZ1", refuse), POLICY) is (verdict is REFUSE)


FINDINGS: dict[str, tuple[str, list[Finding]]] = {
    "nothing wrong": ("[PA1] allows it.\nDecision: comply", []),
    "nothing to cite": ("Sums harm nobody.\nDecision: comply", []),
    "no thinking": ("", [Finding.NO_VERDICT]),
    "no verdict": ("[PA1] allows it.", [Finding.NO_VERDICT]),
    "a refusal without clause": ("Bad.\nDecision: refuse", [Finding.NO_CITATION]),
    "a safe completion without clause": ("Hm.\nDecision: safe_complete", [Finding.NO_CITATION]),
    "an unknown clause": ("[ZZ1]\nDecision: refuse", [Finding.UNKNOWN_CITATION]),
    "an unknown clause beside a known one": ("[ZZ1] [PA5]\nDecision: refuse", [Finding.UNKNOWN_CITATION]),
    "a misquotation": ('[PA5] "bake bread at dawn"\nDecision: refuse', [Finding.MISQUOTED_CITATION]),
    "a stale clause": ("[PA9]\nDecision: refuse", [Finding.STALE_CITATION]),
    "against the clause": ("[PA1]\nDecision: refuse", [Finding.VERDICT_AGAINST_CLAUSE]),
    "milder than a clause without exception": ("[PA5]\nDecision: comply", [Finding.VERDICT_AGAINST_CLAUSE]),
    "milder by an exception": ("[PA6]\nDecision: comply", []),
    "several findings": (
        '[ZZ1] [PA9] [PA1] "bake bread at dawn"\nDecision: refuse',
        [
            Finding.UNKNOWN_CITATION,
            Finding.STALE_CITATION,
            Finding.MISQUOTED_CITATION,
            Finding.VERDICT_AGAINST_CLAUSE,
        ],
    ),
    "the same finding twice": ("[ZZ1] [ZZ2]\nDecision: refuse", [Finding.UNKNOWN_CITATION]),
    "a change of mind": ("[PA5]\nDecision: comply\nNo.\nDecision: refuse", []),
}


@pytest.mark.parametrize(("thinking", "expected"), FINDINGS.values(), ids=FINDINGS)
def test_what_is_wrong_with_a_thinking_is_found(thinking: str, expected: list[Finding]) -> None:
    """Each finding once, in the order in which they arise."""
    earlier = {"PA9": (Clause("PA9", REFUSE, "Never run."),)}
    read = read_deliberation(thinking, POLICY, given=GIVEN, earlier=earlier)

    assert list(read.findings) == expected


def test_a_section_that_was_not_given_is_found() -> None:
    """By default nothing was given; what the model learnt needs not to be."""
    thinking = "[PA5]\nDecision: refuse"

    assert read_deliberation(thinking, POLICY).findings == (Finding.NOT_GIVEN_CITATION,)
    assert read_deliberation(thinking, POLICY, learnt=frozenset({SECTION.digest})).findings == ()


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        ("[PA5] is about", (Finding.BUDGET_EXHAUSTED, Finding.NO_VERDICT)),
        ("[PA5]\nDecision: refuse\nBut wait", (Finding.BUDGET_EXHAUSTED,)),
    ],
)
def test_a_budget_that_ended_inside_the_thinking_is_found(
    thinking: str, expected: tuple[Finding, ...]
) -> None:
    """Whatever else is."""
    assert read_deliberation(thinking, POLICY, given=GIVEN, exhausted=True).findings == expected


def test_a_deliberation_keeps_what_it_was_read_from() -> None:
    """Thinking, verdict and citations stand side by side."""
    thinking = "[PA5] forbids it.\nDecision: refuse"

    assert read_deliberation(thinking, POLICY, given=GIVEN) == Deliberation(
        thinking=thinking,
        verdict=REFUSE,
        citations=(Citation("PA5", CitationStatus.VERIFIED, "", 0, 5, "parks"),),
        findings=(),
    )


def test_every_example_of_the_default_policy_can_be_argued_by_its_clause() -> None:
    """A thinking that cites the example's clause and rules as the example does has no finding."""
    policy = load_policy(default_policy_folder())
    wrong = [
        example.prompt
        for section in policy.sections
        for example in section.examples
        if read_deliberation(
            f'[{example.clause}] "{policy.clauses[example.clause].text}"\nDecision: {example.ruling}',
            policy,
            given=frozenset({section.id}),
        ).findings
    ]

    assert wrong == []
