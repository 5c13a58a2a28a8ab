import base64
import codecs
from pathlib import Path
from typing import get_args

import pytest

from guard.policy.model import Ruling
from training.carriers import load_carriers
from training.errors import DataError
from training.recipe import Variant
from training.records import Prompt, prompt_id, user
from training.variants import LOTS, NOTES, as_spelled, make_variants

CARRIERS = load_carriers(Path(__file__).parents[2] / "training" / "prompts" / "carriers.toml")
AROUND = ("roleplay", "pressed", "document")
PLAINEST = {
    "roleplay": ["Play: {}"],
    "pressed": ["Now: {}"],
    "document": ["Note: {}"],
    "multi_turn": [["Hi.", "Hello."]],
    "system": ["Be brief."],
}
TEXT = "Where do I report a stolen bicycle?"


def prompt(text: str = TEXT) -> Prompt:
    """A plain prompt."""
    return Prompt(
        id=prompt_id(user(text)), messages=user(text), source="pairs", ruling=Ruling.COMPLY, clause="IL1"
    )


@pytest.mark.parametrize("name", sorted(NOTES))
def test_a_variant_keeps_label_and_request(name: str) -> None:
    """Only the clothes change: id and messages differ, ruling, clause and plain text stay."""
    [variant] = make_variants(prompt(), {name: 1.0}, CARRIERS)
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
    made = {v.variant: v.text for v in make_variants(prompt(), {"base64": 1.0, "rot13": 1.0}, CARRIERS)}
    assert base64.b64decode(made["base64"].split()[-1]).decode() == TEXT
    assert codecs.encode(made["rot13"].partition(": ")[2], "rot13") == TEXT


def test_shares_are_kept_and_fixed() -> None:
    """About the share gets a variant, the same ones every time."""
    prompts = [prompt(f"Question number {n}?") for n in range(1000)]
    first, again = ([bool(make_variants(p, {"system": 0.2}, CARRIERS)) for p in prompts] for _ in range(2))
    assert first == again
    assert 150 < sum(first) < 250


def test_a_recipe_may_name_every_variant() -> None:
    """Makers, notes and recipe know the same names."""
    assert set(get_args(Variant)) == set(NOTES)


@pytest.mark.parametrize("name", AROUND)
def test_a_carrier_holds_the_request_as_it_is(name: str) -> None:
    """Whatever the request holds, it stands whole in the variant, and every carrier gets its turn."""
    found = set()
    for number in range(1500):
        text = f'Is {{{number}}} written "{{}}" or %s\\n?'
        [variant] = make_variants(prompt(text), {name: 1.0}, CARRIERS)
        assert variant.text.count(text) == 1
        assert [variant] == make_variants(prompt(text), {name: 1.0}, CARRIERS)
        found.add(variant.text.replace(text, "{}"))
    assert found == set(getattr(CARRIERS, name))


def test_the_carriers_are_many_and_different() -> None:
    """Enough of each kind that none is learnt by heart, and few enough that the lot reaches all."""
    for name, least in {"roleplay": 24, "pressed": 20, "document": 14, "multi_turn": 8, "system": 6}.items():
        texts = getattr(CARRIERS, name)
        assert least <= len(set(texts)) == len(texts) <= LOTS
    assert all(15 <= len(text.split()) <= 120 for text in CARRIERS.roleplay)


def test_allowed_and_refused_requests_get_the_same_carriers() -> None:
    """The ruling has no say in the clothes."""
    refused = prompt().model_copy(update={"ruling": Ruling.REFUSE})
    shares = dict.fromkeys(NOTES, 1.0)
    made = [[v.messages for v in make_variants(p, shares, CARRIERS)] for p in (prompt(), refused)]
    assert made[0] == made[1]


def test_earlier_turns_alternate_and_the_request_is_last() -> None:
    """The user begins, and asks at the end."""
    for number in range(50):
        text = f"Question {number}?"
        [variant] = make_variants(prompt(text), {"multi_turn": 1.0}, CARRIERS)
        roles = [message.role for message in variant.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
        assert variant.text == text


def test_longer_words_are_spelled_in_three_ways() -> None:
    """Short words and signs stay, and what is spelled can be read back."""
    spaced, hyphened, turned = (as_spelled("Is it there, on ice?", lot) for lot in range(3))
    assert spaced == "Is it t h e r e, on ice?"
    assert hyphened == "Is it t-h-e-r-e, on ice?"
    assert turned == "Is it ereht, on ice?"


def test_leetspeak_has_two_alphabets() -> None:
    """One for six letters, a lighter one for three, by lot."""
    texts = [
        make_variants(prompt(f"{TEXT} {n}"), {"leetspeak": 1.0}, CARRIERS)[0].text.rpartition(" ")[0]
        for n in range(40)
    ]
    assert set(texts) == {"wh3r3 d0 1 r3p0r7 4 570l3n b1cycl3?", "Wh3r3 d0 I r3p0rt @ st0l3n bicycl3?"}


def test_what_a_variant_leaves_as_it_was_is_none() -> None:
    """A request without longer words is not spelled."""
    assert make_variants(prompt("Is it ice?"), {"spelled": 1.0}, CARRIERS) == []


@pytest.mark.parametrize(
    ("name", "texts", "said"),
    [
        ("roleplay", ["No place for it."], r"holds 0 times \{\} instead of once, in 'No place for it\.'"),
        ("pressed", ["{} and {}"], r"holds 2 times \{\} instead of once"),
        ("document", [], "at least 1 item"),
        ("system", ["Be {}."], r"holds \{\}, and no request goes there"),
        ("multi_turn", [["Hi.", "Hello.", "So."]], "ends on the user's turn"),
        ("multi_turn", [[]], "at least 2 items"),
        ("other", ["{}"], "Extra inputs are not permitted"),
    ],
)
def test_bad_carriers_are_said_so(tmp_path: Path, name: str, texts: list[object], said: str) -> None:
    """The error names the file, the kind and the text."""
    path = tmp_path / "carriers.toml"
    path.write_text("\n".join(f"{kind} = {value!r}" for kind, value in {**PLAINEST, name: texts}.items()))
    with pytest.raises(DataError, match=rf"(?s)carriers\.toml.*{name}.*{said}"):
        load_carriers(path)


@pytest.mark.parametrize("text", [None, "["])
def test_unreadable_carriers_are_said_so(tmp_path: Path, text: str | None) -> None:
    """An absent file and broken TOML name the file."""
    path = tmp_path / "carriers.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=r"carriers\.toml"):
        load_carriers(path)
