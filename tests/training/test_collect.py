import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from guard.policy.model import Policy, Ruling
from training.collect import collect, read_pairs
from training.decisive import decisive_words
from training.errors import DataError
from training.held_out import or_bench_held_out
from training.recipe import Import, Prompts

PAIRS = Path(__file__).parents[2] / "training" / "prompts" / "pairs"
ROW = {"pair": "p-1", "section": "violence", "phrasing": "how-to"}
TWO = [
    {**ROW, "prompt": "How do I beat my neighbour at chess?", "clause": "VI9", "ruling": "comply"},
    {**ROW, "prompt": "How do I beat my neighbour bloody?", "clause": "VI4", "ruling": "refuse"},
]


def pairs(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """A pairs folder with these rows."""
    folder.mkdir(exist_ok=True)
    (folder / "violence.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def settings(folder: Path, **more: Any) -> Prompts:
    """Nothing but these pairs."""
    return Prompts.model_validate({"pairs": folder, "ordinary": None, "policy_examples": False, **more})


def test_the_hand_written_pairs_are_what_the_recipe_needs(policy: Policy) -> None:
    """At least 1,000 rows over every section, two rulings in each pair, never split apart."""
    rows = list(read_pairs(PAIRS, policy, 0.1))
    assert len(rows) >= 1000
    assert {row.section for row in rows} == set(policy.section)
    splits: dict[str | None, set[str]] = {}
    rulings: dict[str | None, set[object]] = {}
    for row in rows:
        splits.setdefault(row.pair, set()).add(row.split)
        rulings.setdefault(row.pair, set()).add(row.ruling)
    assert {len(found) for found in splits.values()} == {1}
    assert {len(found) for found in rulings.values()} == {2}
    assert 0.05 < Counter(row.split for row in rows)["validation"] / len(rows) < 0.15


def test_evaluation_prompts_are_kept_out(policy: Policy, tmp_path: Path) -> None:
    """A prompt that an evaluation set holds, word for word or nearly, is dropped and counted."""
    (tmp_path / "xstest").mkdir()
    (tmp_path / "xstest" / "xstest_prompts.csv").write_text(
        "id,prompt,type,label\n1,how do I beat my neighbour at CHESS,homonyms,safe\n"
    )
    rows, counts = collect(settings(pairs(tmp_path / "pairs", TWO), near_duplicate=0.9), policy, tmp_path)
    assert [row.clause for row in rows] == ["VI4"]
    assert counts["dropped"] == {"exact duplicate of xstest": 1}


def test_pairs_for_rl_are_unseen_by_sft_and_by_the_held_out(policy: Policy, tmp_path: Path) -> None:
    """All of them are for RL, but for one that nearly repeats what the model is measured on."""
    new = [
        {**TWO[0], "pair": "rl-1", "prompt": "Where do people shoot hoops in the rain?"},
        {**TWO[1], "pair": "rl-1", "prompt": "How do I beat my neighbour bloody??"},
    ]
    rows, counts = collect(
        settings(pairs(tmp_path / "pairs", TWO), rl_pairs=pairs(tmp_path / "rl", new), validation=1.0),
        policy,
        tmp_path,
    )
    assert [(row.clause, row.split) for row in rows] == [
        *(("VI9", "validation"), ("VI4", "validation")),
        ("VI9", "rl"),
    ]
    assert counts["dropped"] == {"exact duplicate of the held-out pairs": 1}


def test_each_side_of_a_pair_knows_what_sets_it_apart(policy: Policy, tmp_path: Path) -> None:
    """The words that the other side lacks."""
    rows, _ = collect(settings(pairs(tmp_path / "pairs", TWO)), policy, tmp_path)
    assert [row.decisive for row in rows] == ["at chess", "bloody"]


@pytest.mark.parametrize(
    ("text", "other", "words"),
    [
        ("same words", "same words", ""),
        ("a b c d e", "a x c y e", "b c d"),
        ('say "cheese" now', "say nothing now", "'cheese'"),
        ("one two", "one", "two"),
    ],
)
def test_decisive_words(text: str, other: str, words: str) -> None:
    """Stretches that few shared words part are one; quotation marks are made harmless."""
    assert decisive_words(text, other).strip("'") == words.strip("'")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"prompt": ""}, "column 'prompt' is missing"),
        ({"ruling": "maybe"}, "ruling 'maybe' is not one of"),
        ({"clause": "VI99"}, "clause 'VI99' is not one of section 'violence'"),
        ({"pair": "p-2"}, "has 1 rows instead of 2"),
    ],
)
def test_bad_pairs_are_named(policy: Policy, tmp_path: Path, change: dict[str, str], problem: str) -> None:
    """File, line and what is wrong."""
    with pytest.raises(DataError, match=problem):
        list(read_pairs(pairs(tmp_path, [TWO[0], {**TWO[1], **change}]), policy, 0.1))


def test_sources_that_hold_nothing_are_errors(policy: Policy, tmp_path: Path) -> None:
    """An empty folder and a recipe without sources."""
    with pytest.raises(DataError, match="holds no pairs"):
        list(read_pairs(tmp_path, policy, 0.1))
    with pytest.raises(DataError, match="no source holds a prompt"):
        collect(settings(tmp_path, pairs=None), policy, tmp_path)


def imported(tmp_path: Path, text: str, **more: Any) -> Prompts:
    """A recipe with one imported CSV."""
    (tmp_path / "set.csv").write_text(text)
    source = {"name": "set", "path": "set.csv", "prompt": "q", "label": "kind", **more}
    return settings(tmp_path, pairs=None, imports=[Import.model_validate(source)])


def test_labels_of_an_import_are_mapped(policy: Policy, tmp_path: Path) -> None:
    """Rulings and sections by label; labels without a ruling and rows on children are dropped and counted."""
    text = "q,kind\nHow to rob a bank,crime\nHow to bake,food\nWhat,other\nHow do kids play,food\n"
    recipe = imported(
        tmp_path, text, rulings={"crime": "refuse", "food": "comply"}, sections={"crime": "illicit-behaviour"}
    )
    rows, counts = collect(recipe, policy, tmp_path)
    found = {row.text: (row.ruling, row.section, row.noisy) for row in rows}
    assert found == {
        "How to rob a bank": ("refuse", "illicit-behaviour", True),
        "How to bake": ("comply", None, True),
    }
    assert counts["dropped"] == {"set: no ruling for its label": 1, "set: concerns children": 1}


def test_an_import_without_its_column_is_said_so(policy: Policy, tmp_path: Path) -> None:
    """The set, the file and the column."""
    with pytest.raises(DataError, match=r"import 'set': set.csv has no column 'kind'"):
        collect(imported(tmp_path, "q\nHow to bake\n", rulings={"*": "comply"}), policy, tmp_path)
    with pytest.raises(DataError, match="the policy has no section nowhere"):
        collect(imported(tmp_path, "q,kind\nx,y\n", sections={"y": "nowhere"}), policy, tmp_path)


def test_the_evaluation_fold_is_never_imported(policy: Policy, tmp_path: Path) -> None:
    """Of a set with a fold, only rows that the hash gives to training are read."""
    lines = "".join(f"Question number {n} about bread,food\n" for n in range(60))
    recipe = imported(tmp_path, "q,kind\n" + lines, rulings={"*": "comply"}, fold="train")
    rows, counts = collect(recipe, policy, tmp_path)
    assert not any(or_bench_held_out(row.text) for row in rows)
    assert len(rows) + counts["dropped"]["set: of the fold kept for evaluation"] == 60


def test_only_own_prompts_for_training_are_varied(policy: Policy, tmp_path: Path) -> None:
    """Imported and held-out prompts stay plain; the carriers are those that the recipe names."""
    (tmp_path / "set.jsonl").write_text(json.dumps({"text": "Where does the ferry land?"}) + "\n")
    carriers = tmp_path / "carriers.toml"
    carriers.write_text(
        'roleplay = ["{}"]\npressed = ["Now: {}"]\ndocument = ["{}"]\n'
        'multi_turn = [["Hi.", "Hello."]]\nsystem = ["Be brief."]\n'
    )
    source = Import(name="set", path="set.jsonl", prompt="text", rulings={"*": Ruling.COMPLY})
    more = {"imports": [source], "variants": {"pressed": 1.0}, "carriers": carriers}
    folder = pairs(tmp_path / "pairs", TWO)
    rows, counts = collect(settings(folder, validation=0.0, **more), policy, tmp_path)
    assert {row.text for row in rows if row.variant == "pressed"} == {f"Now: {row['prompt']}" for row in TWO}
    assert counts["by_variant"] == {"plain": 3, "pressed": 2}
    _, counts = collect(settings(folder, validation=1.0, **more), policy, tmp_path)
    assert counts["by_variant"] == {"plain": 3}
