import base64
import codecs

import pytest

from guard.policy.model import Ruling
from training.records import Prompt, prompt_id, user
from training.variants import NOTES, make_variants

TEXT = "Where do I report a stolen bicycle?"


def prompt(text: str = TEXT) -> Prompt:
    """A plain prompt."""
    return Prompt(
        id=prompt_id(user(text)), messages=user(text), source="pairs", ruling=Ruling.COMPLY, clause="IL1"
    )


@pytest.mark.parametrize("name", sorted(NOTES))
def test_a_variant_keeps_label_and_request(name: str) -> None:
    """Only the clothes change: id and messages differ, ruling, clause and plain text stay."""
    [variant] = make_variants(prompt(), {name: 1.0})
    assert variant.id != prompt().id
    assert (variant.ruling, variant.clause, variant.plain, variant.variant) == (
        Ruling.COMPLY,
        "IL1",
        TEXT,
        name,
    )
    assert variant.messages[-1].role == "user"


def test_encodings_decode_to_the_request() -> None:
    """What is encoded can be read back."""
    made = {v.variant: v.text for v in make_variants(prompt(), {"base64": 1.0, "rot13": 1.0})}
    assert base64.b64decode(made["base64"].split()[-1]).decode() == TEXT
    assert codecs.encode(made["rot13"].partition(": ")[2], "rot13") == TEXT


def test_shares_are_kept_and_fixed() -> None:
    """About the share gets a variant, the same ones every time."""
    prompts = [prompt(f"Question number {n}?") for n in range(1000)]
    first, again = ([bool(make_variants(p, {"system": 0.2})) for p in prompts] for _ in range(2))
    assert first == again
    assert 150 < sum(first) < 250
