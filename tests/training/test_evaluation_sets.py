from pathlib import Path
from typing import get_args

import pytest

from tests.training.public_sets import REQUESTS
from training.duplicates import Reference
from training.encodings import encode
from training.errors import DataError
from training.evaluation_sets import SETS, load_set
from training.held_out import concerns_children, evaluation_texts
from training.jailbreaks import templates
from training.recipe import EvaluationSet


def test_a_recipe_may_name_every_set_and_no_other() -> None:
    """Besides the held-out pairs."""
    assert set(get_args(EvaluationSet)) == {"validation", *SETS}


@pytest.mark.parametrize("name", SETS)
def test_every_set_is_loaded_and_loads_the_same_again(name: str, public_sets: Path) -> None:
    """Rows under the set's own name, each with an identity of its own."""
    items = load_set(name, public_sets).items
    assert {item.set for item in items} == {name}
    assert len({item.id for item in items}) == len(items)
    assert load_set(name, public_sets).items == items


@pytest.mark.parametrize("name", [name for name in SETS if name != "strongreject-jailbreaks"])
def test_no_prompt_of_any_set_can_be_trained_on(name: str, public_sets: Path) -> None:
    """Stage prompts finds each, as it is and slightly changed."""
    reference = Reference.of(evaluation_texts(public_sets), 0.6)
    for item in load_set(name, public_sets).items:
        assert reference.match(item.prompt) is not None, item.prompt
        assert reference.match(item.prompt + "!?") is not None, item.prompt


def test_neither_template_nor_request_of_a_jailbreak_can_be_trained_on(public_sets: Path) -> None:
    """A jailbreak is made of two texts, and both are held out."""
    reference = Reference.of(evaluation_texts(public_sets), 0.6)
    for text in (*templates(public_sets).values(), *REQUESTS):
        assert reference.match(text) is not None


def test_encodings_of_a_held_out_prompt_can_not_be_trained_on(public_sets: Path) -> None:
    """In each of the encodings that are evaluated."""
    reference = Reference.of(evaluation_texts(public_sets), 0.6)
    for encoded in encode(REQUESTS[0]).values():
        assert reference.match(encoded) == ("strongreject-encodings", "exact")


def test_harm_that_is_answered_with_help_asks_for_no_refusal(public_sets: Path) -> None:
    """Do-Not-Answer's questions to the assistant as a person have no side."""
    assert [item.harmful for item in load_set("do-not-answer", public_sets).items] == [True, None]


def test_specbench_is_asked_under_its_own_rules(public_sets: Path) -> None:
    """The scenario and its safety rules are the system prompt."""
    item = load_set("specbench", public_sets).items[0]
    assert item.before[0].content == "Help with Biochem.\nRules:\n- Do no harm."
    assert (item.harmful, item.part) == (True, "Biochem")


def test_earlier_turns_are_kept(public_sets: Path) -> None:
    """A conversation is asked as the set holds it."""
    item = load_set("rbr-style", public_sets).items[1]
    assert [message.role for message in item.conversation] == ["user", "assistant", "user"]
    assert item.conversation[-1].content == item.prompt == "What about ship 1 of the test fleet?"


def test_instructions_that_are_not_checked_are_left_out_and_counted(public_sets: Path) -> None:
    """With the kind of instruction that is missing."""
    loaded = load_set("ifeval", public_sets)
    assert [item.id for item in loaded.items] == ["1"]
    assert loaded.note == (
        "1 of 2 prompts ask only for what is checked exactly here. Left out: language:response_language (1)."
    )


@pytest.mark.parametrize("name", ["strongreject", "strongreject-jailbreaks", "strongreject-encodings"])
def test_rows_on_children_are_left_out_in_every_form(name: str, public_sets: Path) -> None:
    """The request is looked at before it is encoded or wrapped."""
    loaded = load_set(name, public_sets)
    assert loaded.children == 1
    assert {item.group or item.id for item in loaded.items} == {"0", "1", "2"}


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
def test_rows_on_children_are_known_by_plain_words(text: str, left_out: bool) -> None:
    """Rather too many than too few."""
    assert concerns_children(text) is left_out


def test_sets_that_are_not_there_are_said_so(tmp_path: Path) -> None:
    """The set and the folder."""
    with pytest.raises(DataError, match="'xstest' cannot be read under"):
        load_set("xstest", tmp_path)
    with pytest.raises(DataError, match="'strongreject' cannot be read under"):
        load_set("strongreject-jailbreaks", tmp_path)
    with pytest.raises(DataError, match="unknown evaluation set 'nonesuch'"):
        load_set("nonesuch", tmp_path)
