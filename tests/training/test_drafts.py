import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.policy.model import Policy, Ruling
from training.collect import read_pairs
from training.drafts import Draft, as_drafts, read_drafts, response_format

PAIRS = Path(__file__).parents[2] / "training" / "prompts" / "pairs"
DRAFT = Draft(
    fact="whom",
    allowed='Say {"hello"} to the\nguard.',
    allowed_ruling=Ruling.COMPLY,
    crossing="Say } to the guard \\ and hit him.",
    crossing_ruling=Ruling.REFUSE,
)
ROW = DRAFT.model_dump_json()


@pytest.mark.parametrize(
    "text",
    [
        f'{{"pairs": [{ROW}]}}',
        f"[{ROW}]",
        ROW,
        f"Here are the pairs:\n```json\n{ROW}\n```\nShall I write more?",
        f'{{"pairs": [{ROW}, {ROW[:-20]}',
        f'{{"pairs": [{{"fact": "half"}}, {ROW}]}}',
        ROW.replace("\\n", "\n"),
    ],
    ids=["as asked", "list", "bare", "within words", "cut off", "half pair", "raw newline"],
)
def test_a_pair_is_found_in_whatever_stands_around_it(text: str) -> None:
    """Whole pairs are read, halves are not."""
    assert read_drafts(text) == [DRAFT]


@pytest.mark.parametrize("change", [{"allowed_ruling": "maybe"}, {"crossing": None}, {"fact": ["a"]}])
def test_a_pair_with_a_bad_field_is_none(change: dict[str, Any]) -> None:
    """Neither an unknown ruling nor a missing side is guessed."""
    assert read_drafts(json.dumps({**DRAFT.model_dump(), **change})) == []


_rulings = st.sampled_from(Ruling)
_drafts = st.builds(
    Draft,
    fact=st.text(),
    allowed=st.text(),
    allowed_ruling=_rulings,
    crossing=st.text(),
    crossing_ruling=_rulings,
)
_between = st.text(alphabet=st.characters(exclude_characters='{}"', exclude_categories=["Cs"]))


@given(st.lists(_drafts, max_size=4), _between, _between)
def test_every_pair_of_a_reply_is_read_as_it_was_written(
    drafts: list[Draft], before: str, after: str
) -> None:
    """Whatever the requests hold, whatever stands before and after."""
    rows = ", ".join(draft.model_dump_json() for draft in drafts)
    assert read_drafts(f'{before}{{"pairs": [{rows}]}}{after}') == drafts


@given(st.text() | st.text(alphabet='{}[]":,\\ a', max_size=300))
def test_no_reply_makes_the_reader_fail(text: str) -> None:
    """What is no pair is left out."""
    assert read_drafts(text) == []


def test_nothing_but_the_pairs_asked_for_fits_the_form() -> None:
    """All fields are required in every object, as strict JSON schemas want it, and the count is fixed."""
    schema = response_format(3)["json_schema"]["schema"]
    pairs = schema["properties"]["pairs"]
    assert (pairs["minItems"], pairs["maxItems"]) == (3, 3)
    for part in (schema, pairs["items"]):
        assert part["required"] == list(part["properties"])
        assert part["additionalProperties"] is False
    assert list(pairs["items"]["properties"]) == list(Draft.model_fields)


def test_hand_written_pairs_become_examples_of_their_section(policy: Policy) -> None:
    """One side complies, the other does not, and each is named with the words that the other lacks."""
    drafts = as_drafts(list(read_pairs(PAIRS, policy, 0.1)))
    assert set(drafts) == set(policy.section)
    for section in drafts.values():
        assert all(draft.allowed_ruling is Ruling.COMPLY for draft in section)
        assert all(draft.crossing_ruling is not Ruling.COMPLY for draft in section)
    [first] = [d for d in drafts["violence"] if "butcher a love song" in d.allowed]
    assert "love song" in first.fact
    assert "drunk" in first.fact
