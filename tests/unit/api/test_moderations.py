"""What the model is asked about a text, and how its decision is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.api.body import validate
from guard.api.moderations import is_flagged, moderation
from guard.api.moderations_request import INSTRUCTION, Judged, ModerationRequest
from guard.deliberation.deliberation import read_deliberation
from guard.errors import InvalidRequest
from guard.pipeline.events import Decided
from guard.policy.load import load_policy
from tests.guarded import POLICY

SPECS = load_policy(POLICY)


def _result(
    thinking: str, *, refused: bool = False, given_sections: tuple[str, ...] = ("self-harm",)
) -> dict[str, Any]:
    read = read_deliberation(thinking, SPECS, given=frozenset(given_sections))
    return moderation(read, SPECS, ["text"], flagged=is_flagged(Decided(read, refused)))


def test_a_harmless_text_is_not_flagged() -> None:
    """Without citations there are no categories."""
    assert _result("Sums harm nobody.\nDecision: comply") == {
        "flagged": False,
        "categories": {},
        "category_scores": {},
        "category_applied_input_types": {},
    }


def test_the_clauses_that_decided_are_the_categories() -> None:
    """A refusal that cites a clause flags the text under that clause, with a score that is no guess."""
    assert _result("It asks which method. [SH3]\nDecision: refuse") == {
        "flagged": True,
        "categories": {"self-harm/SH3": True},
        "category_scores": {"self-harm/SH3": 1.0},
        "category_applied_input_types": {"self-harm/SH3": ["text"]},
    }


@pytest.mark.parametrize(
    "thinking",
    [
        "[XX9] forbids it.\nDecision: refuse",
        "[CY1] forbids it.\nDecision: refuse",
        '[SH3] "not its own words"\nDecision: refuse',
    ],
)
def test_a_citation_that_does_not_hold_is_no_category(thinking: str) -> None:
    """Unknown, not given and misquoted clauses are left out; the decision stands."""
    assert (_result(thinking)["flagged"], _result(thinking)["categories"]) == (True, {})


def test_clauses_that_were_weighed_for_a_harmless_text_are_false() -> None:
    """A cited clause of a text that complies is there and does not hold."""
    assert _result("No method is asked for, so [SH3] does not apply.\nDecision: comply")["categories"] == {
        "self-harm/SH3": False
    }


def test_a_clause_that_allows_is_false_where_another_forbids() -> None:
    """Only clauses that hold something back are reasons to flag."""
    allowing = next(c.id for c in SPECS.section["self-harm"].clauses if c.ruling.value == "comply")
    result = _result(f"[{allowing}] allows talk, [SH3] forbids methods.\nDecision: refuse")

    assert result["categories"] == {f"self-harm/{allowing}": False, "self-harm/SH3": True}


@pytest.mark.parametrize("thinking", ["", "I cannot tell."])
def test_what_is_not_decided_is_flagged(thinking: str) -> None:
    """A text that could not be judged was not found harmless."""
    assert _result(thinking)["flagged"] is True


def test_what_enforcement_refuses_is_flagged() -> None:
    """A decision that enforcement does not let stand does not clear a text."""
    assert _result("Decision: comply", refused=True)["flagged"] is True


@given(st.text(max_size=200))
def test_no_text_can_hold_its_own_marks(text: str) -> None:
    """Whatever stands in a text, the marks around it are the only two, and it is between them unchanged."""
    content = Judged(text).message()["content"]
    mark = content.removeprefix(INSTRUCTION).split("\n")[2]

    assert content == f"{INSTRUCTION}\n\n{mark}\n{text}\n{mark}"
    assert mark not in text


def test_a_text_that_knows_other_marks_stays_inside() -> None:
    """Closing marks of another text mean nothing."""
    inner = Judged("x").message()["content"]
    mark = Judged(inner).message()["content"].split("\n")[2]

    assert mark not in inner


def test_the_same_text_is_asked_in_the_same_words() -> None:
    """Field lesson 37: equal inputs are equal prompts."""
    assert Judged("x").message() == Judged("x").message()


@pytest.mark.parametrize(
    ("given_input", "judged"),
    [
        ("a", [Judged("a")]),
        (["a", "b"], [Judged("a"), Judged("b")]),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], [Judged("a\nb")]),
        (
            [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:image/x"}}],
            [Judged("a", ("data:image/x",))],
        ),
    ],
)
def test_texts_of_a_list_are_judged_alone_and_parts_together(given_input: Any, judged: list[Judged]) -> None:
    """As OpenAI's endpoint has it: one result per text, one for all parts."""
    assert validate(ModerationRequest, {"input": given_input}).judged == judged


@pytest.mark.parametrize(
    ("judged", "kinds"),
    [
        (Judged("a"), ["text"]),
        (Judged(""), ["text"]),
        (Judged("a", ("u",)), ["text", "image"]),
        (Judged("", ("u",)), ["image"]),
    ],
)
def test_kinds_of_input(judged: Judged, kinds: list[str]) -> None:
    """What a decision was taken on is told."""
    assert judged.kinds == kinds


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": [1]}, "input"),
        ({"input": ["x"] * 129}, "input"),
        ({"input": [{"type": "audio"}]}, "input"),
        ({"input": "x", "stream": True}, "stream"),
    ],
)
def test_what_cannot_be_judged_is_refused_by_name(body: Any, param: str) -> None:
    """Bounds and unknown fields."""
    with pytest.raises(InvalidRequest) as raised:
        validate(ModerationRequest, body)

    assert (raised.value.param or "").startswith(param)
