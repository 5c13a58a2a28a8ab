import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from guard.policy.model import Policy, Ruling
from tests.training.test_sft import example
from training.errors import DataError
from training.grpo import balanced, reinforce
from training.recipe import Recipe
from training.records import Prompt, prompt_id, user
from training.sft import train

pytestmark = pytest.mark.filterwarnings("ignore")  # the trainers warn about their own deprecations


def prompts(count: int) -> list[Prompt]:
    """Pairs, half of them to refuse."""
    made = []
    for n in range(count):
        messages = user(f"Question {n}?")
        made.append(
            Prompt(
                id=prompt_id(messages),
                messages=messages,
                source="pairs",
                section="violence",
                ruling=Ruling.REFUSE if n % 2 else Ruling.COMPLY,
            )
        )
    return made


def small_run(tiny: Path, run: Path, **rl: Any) -> Recipe:
    """A run of a few tokens."""
    return Recipe.model_validate(
        {
            "name": "tiny",
            "run_dir": run,
            "student": str(tiny),
            "sft": {"bf16": False, "batch": 2, "max_steps": 1, "lora": {"rank": 2}},
            "rl": {"generations": 2, "max_tokens": 4, "bf16": False, **rl},
        }
    )


def test_half_of_the_prompts_are_allowed() -> None:
    """A safety reward on refusals alone teaches refusing."""
    chosen = balanced(prompts(40), 12, seed=1)
    assert sum(p.ruling is Ruling.COMPLY for p in chosen) == len(chosen) / 2 == 6
    with pytest.raises(DataError, match="allowed and not allowed"):
        balanced([p for p in prompts(4) if p.ruling is Ruling.COMPLY], 2, seed=1)


def test_prompts_that_sft_has_not_seen_come_first() -> None:
    """The others fill up; none of the held-out ones is taken."""
    made = [
        prompt.model_copy(update={"split": split})
        for prompt, split in zip(prompts(12), ("train",) * 4 + ("rl",) * 4 + ("validation",) * 4, strict=True)
    ]
    assert {p.split for p in balanced(made, 4, seed=1)} == {"rl"}
    assert Counter(p.split for p in balanced(made, 100, seed=1)) == {"rl": 4, "train": 4}


@pytest.mark.slow
def test_a_step_goes_on_from_the_sft_model(tiny: Path, policy: Policy, tmp_path: Path) -> None:
    """The adapter of SFT is trained further; the log holds reward, length and KL of every step."""
    recipe = small_run(tiny, tmp_path, steps=2)
    train(recipe, [example("Question?")] * 2, policy, tmp_path / "sft")
    assert recipe.rl is not None
    facts = reinforce(recipe, recipe.rl, prompts(8), policy, None)
    assert facts["steps"] == 2
    assert (tmp_path / "rl" / "model" / "adapter_model.safetensors").exists()
    history = json.loads((tmp_path / "rl" / "log.json").read_text())
    assert {"reward", "kl", "completions/mean_length"} <= set(history[0])


@pytest.mark.slow
def test_the_untrained_student_can_be_the_start(tiny: Path, policy: Policy, tmp_path: Path) -> None:
    """The ablation "RL only" needs no SFT model and leaves an adapter."""
    recipe = small_run(tiny, tmp_path, steps=1, start="student")
    assert recipe.rl is not None
    reinforce(recipe, recipe.rl, prompts(8), policy, None)
    assert (tmp_path / "rl" / "model" / "adapter_model.safetensors").exists()


def test_rl_without_sft_is_said_so(tiny: Path, policy: Policy, tmp_path: Path) -> None:
    """The folder that is missing and the stage that makes it."""
    recipe = Recipe.model_validate({"name": "t", "run_dir": tmp_path, "student": str(tiny), "rl": {}})
    assert recipe.rl is not None
    with pytest.raises(DataError, match="did stage sft run"):
        reinforce(recipe, recipe.rl, prompts(4), policy, None)
