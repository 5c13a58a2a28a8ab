import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guard.policy.load import load_policy
from tests.training.conftest import ROOT
from training.cli import app, main
from training.errors import TrainingError
from training.recipe_file import load_recipe
from training.stages import STAGES, stage_key, stages_of

pytestmark = pytest.mark.filterwarnings("ignore")  # the trainers warn about their own deprecations


@pytest.mark.parametrize("stage", [*STAGES, "run", "merge"])
def test_every_stage_is_a_command_with_help(stage: str) -> None:
    """Named as the stage, with a line on what it does."""
    result = CliRunner().invoke(app, [stage, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_errors_are_one_message_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback for what a user can mend."""
    monkeypatch.setattr(sys, "argv", ["training", "prompts", str(tmp_path / "none.toml")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["add a [teacher] table", "column [/x] is absent"])
def test_errors_are_printed_as_they_are(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What stands in brackets is no markup."""

    def fail() -> None:
        raise TrainingError(text)

    monkeypatch.setattr("training.cli.app", fail)
    with pytest.raises(SystemExit):
        main()
    assert f"error: {text}" in capsys.readouterr().err


@pytest.mark.parametrize("until", ["judge", "rl", "nothing"])
def test_a_run_until_a_stage_that_the_recipe_lacks_is_an_error(tmp_path: Path, until: str) -> None:
    """It would otherwise do all the others; the message names the recipe's own."""
    path = miniature(tmp_path / "no-model", tmp_path)
    result = CliRunner().invoke(app, ["run", str(path), "--until", until])
    assert isinstance(result.exception, TrainingError)
    assert str(result.exception).endswith("prompts, generate, filter, sft, evaluate, export")
    assert not (tmp_path / "run").exists()


def test_help_needs_no_machine_learning_stack() -> None:
    """Heavy libraries load where a stage runs, so that the command line answers at once."""
    code = "import sys, training.cli; print(sorted({'torch', 'trl', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def miniature(tiny: Path, tmp_path: Path) -> Path:
    """A recipe of every stage but judge and rl, on a handful of prompts."""
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    rows = []
    for n in range(20):
        common = {"pair": f"p-{n}", "section": "violence"}
        rows.append({**common, "prompt": f"Beat team {n}", "clause": "VI9", "ruling": "comply"})
        rows.append({**common, "prompt": f"Beat team {n} up", "clause": "VI4", "ruling": "refuse"})
    (pairs / "violence.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "recipe.toml"
    path.write_text(f"""
name = "miniature"
run_dir = "{tmp_path / "run"}"
data_dir = "{tmp_path / "data"}"
student = "{tiny}"
[prompts]
pairs = "{pairs}"
ordinary = "{ROOT / "training/prompts/ordinary.jsonl"}"
ordinary_limit = 4
policy_examples = false
validation = 0.3
variants = {{ system = 0.5, base64 = 0.2 }}
[generate]
mode = "written"
own_answers = 2
max_tokens = 8
[filter]
require_judge = false
[sft]
bf16 = false
batch = 4
max_steps = 2
[sft.lora]
rank = 2
[evaluate]
sets = ["validation"]
max_tokens = 8
[export]
out = "{tmp_path / "out"}"
""")
    return path


def test_a_miniature_recipe_runs_from_prompts_to_export(tiny: Path, tmp_path: Path) -> None:
    """Every stage leaves its output and manifest; a second run finds all of them up to date."""
    path = miniature(tiny, tmp_path)
    first = CliRunner().invoke(app, ["run", str(path)], catch_exceptions=False)
    assert first.exit_code == 0
    recipe = load_recipe(path)
    for stage in stages_of(recipe):
        assert (recipe.run_dir / STAGES[stage].output).exists(), stage
        manifest = json.loads((recipe.run_dir / "manifests" / f"{stage}.json").read_text())
        assert manifest["policy_digest"] == load_policy(recipe.policy).digest
    card = json.loads((tmp_path / "out" / "model-card.json").read_text())
    assert card["sections"] == {s.id: s.digest for s in load_policy(recipe.policy).sections}
    assert card["metrics"]["sft"]["validation"]["verdict given"]["of"] > 0
    assert str(tmp_path) not in json.dumps(card)
    assert (tmp_path / "out" / "adapter_model.safetensors").stat().st_size > 0
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()
    second = CliRunner().invoke(app, ["run", str(path)], catch_exceptions=False)
    assert second.output.count("is up to date") == len(stages_of(recipe))


def test_new_carriers_make_the_prompts_stale(tmp_path: Path) -> None:
    """Only where the recipe makes variants."""
    path = miniature(tmp_path / "no-model", tmp_path)
    carriers = tmp_path / "carriers.toml"
    carriers.write_text("roleplay = []")
    recipe = load_recipe(path)
    policy = load_policy(recipe.policy)
    varied = recipe.prompts.model_copy(update={"carriers": carriers})
    plain = varied.model_copy(update={"variants": {}})
    recipes = [recipe.model_copy(update={"prompts": prompts}) for prompts in (varied, plain)]
    before = [stage_key("prompts", r, policy) for r in recipes]
    carriers.write_text("roleplay = ['{}']")
    after = [stage_key("prompts", r, policy) for r in recipes]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True]
