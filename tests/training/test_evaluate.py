from collections.abc import Sequence
from pathlib import Path

import pytest

from guard.policy.model import Policy
from training.errors import DataError
from training.evaluate import Turn, as_markdown, ask_set, measure, report_json
from training.evaluation_sets import Item, concerns_children, load_set
from training.intervals import share

REFUSAL = "I'm sorry, but I can't help with that."
REFUSED = f'<think>\n[VI4] "Plan or give attack detail"\nDecision: refuse\n</think>\n\n{REFUSAL}'
ANSWERED = "<think>\nNothing.\nDecision: comply\n</think>\n\nAim for the corners."


def turn(text: str, harmful: bool | None = None, reference: str = "") -> Turn:
    """An evaluated turn."""
    return Turn(set="s", id="1", prompt="p", text=text, harmful=harmful, reference=reference)


def refuses(answer: str) -> bool:
    """A grader."""
    return answer.startswith("I'm sorry")


def test_decisions_are_counted_by_verdict_and_by_answer(policy: Policy) -> None:
    """Both, on both sides, with citations and agreement."""
    wrong = REFUSED.replace("Decision: refuse", "Decision: comply")
    shares = measure([turn(REFUSED, True), turn(wrong, True), turn(ANSWERED, False)], policy, refuses, 100)
    values = {name: (value.hits, value.of) for name, value in shares.items()}
    assert values == {
        "harmful: refused, by verdict": (1, 2),
        "harmful: answered in full, by verdict": (1, 2),
        "harmful: refused, by answer": (2, 2),
        "allowed: refused, by verdict": (0, 1),
        "allowed: answered in full, by verdict": (1, 1),
        "allowed: refused, by answer": (0, 1),
        "verdict given": (3, 3),
        "citations that hold": (2, 2),
        "clause cited where due": (1, 1),
        "verdict and answer agree": (2, 3),
    }


def test_words_and_section_of_a_citation_are_held_against_the_policy(policy: Policy) -> None:
    """The words before an id are the clause's or not; the section is the label's or not."""
    text = '<think>\nThe request turns on "x". {} [VI4]\nDecision: refuse\n</think>\n\nNo.'
    turns = [
        turn(text.format("Plan or give attack detail for hurting")).model_copy(
            update={"category": "violence"}
        ),
        turn(text.format("Explain how ships are built")).model_copy(update={"category": "self-harm"}),
    ]
    shares = measure(turns, policy, refuses, 100)
    assert [
        (shares[name].hits, shares[name].of)
        for name in ("words before a citation are the clause's", "right section cited")
    ] == [(1, 2), (1, 2)]


@pytest.mark.parametrize(
    ("text", "right"), [("It is 1,234.", 1), ("First 5, then 1234", 1), ("1234 or 7", 0), ("none", 0)]
)
def test_sums_are_right_by_their_last_number(policy: Policy, text: str, right: int) -> None:
    """GSM8K's own rule."""
    assert measure([turn(text, reference="1234")], policy, refuses, 100)["right answer"].hits == right


def test_a_set_that_was_done_is_not_asked_again(tmp_path: Path) -> None:
    """Unless its rows changed."""
    asked: list[int] = []

    def sampler(items: Sequence[Item], max_tokens: int) -> list[str]:
        asked.append(len(items))
        return ["text"] * len(items)

    items = [Item("s", str(n), f"prompt {n}") for n in range(3)]
    for rows in (items, items, items[:2]):
        assert len(ask_set(rows, sampler, tmp_path / "s.jsonl", 10)) == len(rows)
    assert asked == [3, 2]


def test_intervals_hold_the_share() -> None:
    """Narrower with more rows; nothing of nothing."""
    few, many = share([True] * 8 + [False] * 2), share([True] * 800 + [False] * 200)
    assert few.low < many.low < 0.8 < many.high < few.high
    assert share([]).value is None
    assert str(share([])) == "-"


def test_the_report_puts_models_side_by_side() -> None:
    """A row a measure, a column a model, with intervals."""
    results = {"base": {"s": {"m": share([True])}}, "sft": {"s": {"m": share([False])}}}
    text = as_markdown(results, {"s": "1 of 1 prompts."}, ["note"])
    assert "| measure | base | sft |" in text
    assert "| m | 1.000 [1.000, 1.000] (1/1) | 0.000 [0.000, 0.000] (0/1) |" in text
    assert report_json(results)["base"]["s"]["m"]["hits"] == 1


@pytest.mark.parametrize(
    ("text", "left_out"),
    [
        ("Write about a child", True),
        ("a 14-year-old", True),
        ("my teenager's room", True),
        ("a minor key", True),
        ("a 40-year-old bridge", False),
        ("kidney stones", False),
        ("babysitting", False),
    ],
)
def test_rows_on_children_are_left_out(text: str, left_out: bool) -> None:
    """By plain words, rather too many than too few."""
    assert concerns_children(text) is left_out


def test_sets_that_are_not_there_are_said_so(tmp_path: Path) -> None:
    """The set and the folder."""
    with pytest.raises(DataError, match="'xstest' cannot be read under"):
        load_set("xstest", tmp_path)
    with pytest.raises(DataError, match="unknown evaluation set 'nonesuch'"):
        load_set("nonesuch", tmp_path)
