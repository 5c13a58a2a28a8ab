from pathlib import Path

import pytest

from training.encodings import encode, encodings
from training.jailbreaks import fill, jailbreaks, templates, worst_mean
from training.records import Item


def test_templates_are_short_different_and_have_a_slot(public_sets: Path) -> None:
    """Near duplicates, templates on children, long ones and ones without a slot are not drawn."""
    names = set(templates(public_sets))
    assert len(names & {"gptfuzzer-0", "gptfuzzer-1"}) == 1
    assert names - {"gptfuzzer-0", "gptfuzzer-1"} == {"harmbench-0", "wild-0"}


def test_the_draw_is_the_same_every_time(public_sets: Path) -> None:
    """In the same order too."""
    assert list(templates(public_sets).items()) == list(templates(public_sets).items())


@pytest.mark.parametrize(
    "slot",
    ["{0}", "[INSERT PROMPT HERE]", r"\[INSERT PROMPT HERE\]", "[insert question here]", "[PROMPT HERE]"],
)
def test_the_request_stands_in_every_slot(slot: str) -> None:
    """Whatever it holds, a slot's own words included."""
    assert fill(f"A {slot} b {slot}.", r"\1 {0}") == r"A \1 {0} b \1 {0}."


def test_every_prompt_meets_every_template() -> None:
    """As one group, with the label of the prompt."""
    plain = [Item(set="s", id=name, prompt=f"ask {name}", harmful=True) for name in "ab"]
    made = list(jailbreaks(plain, {"x": "X {0}", "y": "Y {0}"}))
    assert [(item.group, item.id, item.prompt) for item in made] == [
        ("a", "a-x", "X ask a"),
        ("a", "a-y", "Y ask a"),
        ("b", "b-x", "X ask b"),
        ("b", "b-y", "Y ask b"),
    ]
    assert {(item.set, item.harmful) for item in made} == {("s-jailbreaks", True)}


@pytest.mark.parametrize(
    ("goodness", "expected"),
    [([1.0], 1.0), ([1.0] * 9 + [0.0], 0.0), ([0.0] + [1.0] * 19, 0.5), ([0.5] * 11, 0.5)],
)
def test_the_worst_tenth_is_at_least_one(goodness: list[float], expected: float) -> None:
    """Rounded up, so that a weak spot is never averaged away."""
    assert worst_mean(goodness) == expected


def test_encodings_come_beside_the_plain_prompt() -> None:
    """One form a part, the plain one first, all of one group."""
    [*made] = encodings([Item(set="s", id="1", prompt="Where is the ferry?", harmful=True)])
    assert [item.part for item in made] == ["plain", *encode("x")]
    assert {item.group for item in made} == {"1"}
    assert made[0].prompt == "Where is the ferry?"
    assert len({item.prompt for item in made}) == len(made)


def test_encodings_that_are_never_trained_on_can_be_read_back() -> None:
    """hex, reversed and spelled out hold the request."""
    found = {name: text.partition(": ")[2] for name, text in encode("Is it late?").items()}
    assert bytes.fromhex(found["hex"]).decode() == "Is it late?"
    assert found["reversed"][::-1] == "Is it late?"
    assert found["spelled"].split("-") == list("Is it late?")
