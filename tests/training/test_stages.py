import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from guard.policy.model import Policy
from tests.training.conftest import ROOT
from training.errors import DataError
from training.export import export
from training.files import manifest_path, write_json, write_manifest
from training.recipe import Recipe
from training.stages import run_stage, stage_key, up_to_date


def recipe(run: Path, **more: Any) -> Recipe:
    """A run of the default policy."""
    fields = {"name": "r", "run_dir": run, "student": "s", "policy": ROOT / "specs" / "default", **more}
    return Recipe.model_validate(fields)


def quiet(total: int) -> Any:
    """No progress bar."""
    return nullcontext(lambda count: None)


@pytest.mark.parametrize(("mode", "stale"), [("written", True), ("free", False)])
def test_new_answers_make_written_completions_stale(
    tmp_path: Path, policy: Policy, mode: str, stale: bool
) -> None:
    """A teacher reads none of them."""
    answers = tmp_path / "answers.toml"
    made = recipe(tmp_path / "run", generate={"mode": mode, "answers": answers})
    keys = []
    for text in ("old", "new"):
        answers.write_text(text)
        keys.append(stage_key("generate", made, policy))
    assert (keys[0] != keys[1]) is stale


@pytest.mark.parametrize(("name", "stale"), [("validation", True), ("xstest", False)])
def test_new_prompts_make_an_evaluation_of_the_held_out_pairs_stale(
    tmp_path: Path, policy: Policy, name: str, stale: bool
) -> None:
    """No other set is made of them."""
    made = recipe(tmp_path, evaluate={"sets": [name]})
    keys = []
    for text in ("old", "new"):
        (tmp_path / "prompts.jsonl").write_text(text)
        keys.append(stage_key("evaluate", made, policy))
    assert (keys[0] != keys[1]) is stale


def test_a_stage_that_failed_is_not_up_to_date(tmp_path: Path, policy: Policy) -> None:
    """Though it was once, with the same settings, and its output stands there still."""
    made = recipe(tmp_path)
    (tmp_path / "completions.jsonl").write_text("")
    (tmp_path / "examples.jsonl").write_text("{}")
    write_manifest(tmp_path, "filter", key=stage_key("filter", made, policy), started=0.0, facts={})
    assert up_to_date("filter", made, policy)
    with pytest.raises(DataError):
        run_stage("filter", made, quiet)
    assert not up_to_date("filter", made, policy)


@pytest.mark.parametrize(("rl", "stage"), [(None, "sft"), ({}, "rl")])
def test_a_model_of_rl_is_exported_only_where_the_recipe_has_rl(
    tmp_path: Path, policy: Policy, rl: dict[str, Any] | None, stage: str
) -> None:
    """One that an earlier recipe left in the run's folder is not shipped, nor are its facts."""
    for name in ("sft", "rl"):
        model = tmp_path / "run" / name / "model"
        model.mkdir(parents=True)
        save_file({"x": torch.ones(2)}, model / "adapter_model.safetensors")
        (model / "adapter_config.json").write_text("{}")
        write_json(manifest_path(tmp_path / "run", name), {"steps": 1})
    made = recipe(tmp_path / "run", rl=rl, export={"out": tmp_path / "out"})
    assert export(made, policy)["stage"] == stage
    card = json.loads((tmp_path / "out" / "model-card.json").read_text())
    assert (card["stage"], "rl" in card["data"]) == (stage, stage == "rl")
