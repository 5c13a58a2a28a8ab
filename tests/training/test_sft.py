import json
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from safetensors import safe_open

from guard.policy.model import Policy, Ruling
from tests.training.conftest import ROOT
from training.compact import IGNORED
from training.deliberate import completion_text, written_thinking
from training.errors import DataError
from training.files import write_json, write_rows
from training.recipe import Recipe
from training.records import Example, Message, prompt_id, user
from training.sft import (
    Encoded,
    encode,
    forbid_policy,
    in_batches_of_like_length,
    last_checkpoint,
    own_checkpoints,
    rows_to_train,
    train,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # the trainers warn about their own deprecations

FIRST_LOSS = 10.8
"""Pinned: what the tiny model begins with, log(49152)."""


def example(text: str, answer: str = "I'm sorry, but I can't help with that.", **more: Any) -> Example:
    """A row that refuses."""
    messages = more.pop("messages", user(text))
    return Example(
        id=prompt_id(messages),
        messages=messages,
        thinking='The request turns on "x". [VI4] "Plan or give attack detail"\nDecision: refuse',
        answer=answer,
        source="pairs",
        ruling=Ruling.REFUSE,
        **more,
    )


def recipe(tiny: Path, run: Path, **sft: Any) -> Recipe:
    """A run of a few steps."""
    settings = {"bf16": False, "batch": 2, "max_steps": 3, "learning_rate": 1e-3, "lora": {"rank": 2}, **sft}
    return Recipe.model_validate(
        {
            "name": "tiny",
            "run_dir": run,
            "student": str(tiny),
            "sft": settings,
            "filter": {"require_judge": False},
        }
    )


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Any:
    """The student's tokenizer."""
    return pytest.importorskip("transformers").AutoTokenizer.from_pretrained(tiny)


CONVERSATIONS = {
    "one turn": user("How do I hurt Bo?"),
    "system": (Message(role="system", content="You are a librarian."), *user("How do I hurt Bo?")),
    "many turns": (*user("Hi"), Message(role="assistant", content="Hello."), *user("How do I hurt Bo?")),
    "tool": (*user("Look it up"), Message(role="tool", content='{"found": 3}'), *user("And now?")),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_loss_covers_thinking_answer_and_end_of_turn_alone(tokenizer: Any, name: str) -> None:
    """Nothing of the prompt, all of the completion, and the token that ends the turn."""
    row = example("Hm", messages=CONVERSATIONS[name])
    encoded = encode(row, tokenizer, 1024)
    assert encoded is not None
    prompt = tokenizer.apply_chat_template(
        [m.model_dump() for m in row.messages], tokenize=False, add_generation_prompt=True
    )
    at = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    assert encoded.labels[:at] == [IGNORED] * at
    assert encoded.labels[at:] == encoded.input_ids[at:]
    assert tokenizer.decode(encoded.labels[at:-1]) == completion_text(row.thinking, row.answer)
    assert encoded.labels[-1] == tokenizer.eos_token_id


def test_a_row_without_answer_teaches_the_thinking_and_no_end(tokenizer: Any) -> None:
    """The answer stays the student's own."""
    encoded = encode(example("Hm?", answer=""), tokenizer, 1024)
    assert encoded is not None
    assert encoded.labels[-1] != tokenizer.eos_token_id
    assert tokenizer.decode(encoded.input_ids).endswith("Decision: refuse\n</think>\n\n")


def test_the_tokens_that_decide_weigh_more(tokenizer: Any, policy: Policy) -> None:
    """The finding's first and those of the clause's words; a thinking of another form has none."""
    thinking = written_thinking("How do I hurt Bo?", Ruling.REFUSE, policy.clauses["VI4"])
    weights = {"finding_weight": 20.0, "clause_weight": 3.0}
    row = encode(
        example("How do I hurt Bo?").model_copy(update={"thinking": thinking}), tokenizer, 1024, **weights
    )
    assert row is not None
    words = {
        weight: tokenizer.decode(
            [label for label, own in zip(row.labels, row.weights, strict=True) if own == weight]
        )
        for weight in (20.0, 3.0)
    }
    quoted = thinking.partition(": ")[2].partition(" [")[0]
    assert {weight: text.strip() for weight, text in words.items()} == {20.0: "Not", 3.0: quoted}
    plain = encode(example("How do I hurt Bo?"), tokenizer, 1024, **weights)
    assert plain is not None
    assert set(plain.weights) == {1.0}


def test_rows_that_are_too_long_are_left_out(tokenizer: Any) -> None:
    """Never cut, which would cut the verdict."""
    assert encode(example("word " * 500), tokenizer, 100) is None


def test_a_prompt_with_the_spec_is_refused(tokenizer: Any, policy: Policy) -> None:
    """Neither marked nor word for word."""
    with pytest.raises(DataError, match="holds policy text"):
        encode(example("<policy>\nSH1\n</policy>\nHi"), tokenizer, 1024)
    with pytest.raises(DataError, match="holds the policy text"):
        forbid_policy([example(f"Rules: {policy.clauses['SH3'].text} Hi")], policy)


def test_only_training_rows_are_trained_on(tiny: Path, tmp_path: Path) -> None:
    """Validation rows stay out; sources are repeated as the recipe says; no rows, no training."""
    rows = [example("a"), example("b", split="validation")]
    made = recipe(tiny, tmp_path, repeat={"pairs": 3})
    assert [row.messages[0].content for row in rows_to_train(made, rows)] == ["a", "a", "a"]
    with pytest.raises(DataError, match="no training rows"):
        rows_to_train(made, rows[1:])


def test_the_loss_curve_is_pinned(tiny: Path, policy: Policy, tmp_path: Path, capsys: Any) -> None:
    """The tiny model starts where a random one must and leaves an adapter; the mask is printed once."""
    made = recipe(tiny, tmp_path)
    facts = train(made, [example(f"Question {n}?") for n in range(6)], policy, tmp_path / "sft")
    assert facts["steps"] == 3
    assert facts["rows"] == 6
    assert (tmp_path / "sft" / "model" / "adapter_model.safetensors").exists()
    history = json.loads((tmp_path / "sft" / "log.json").read_text())
    assert [entry["loss"] for entry in history] == pytest.approx([FIRST_LOSS] * len(history), abs=0.1)
    assert capsys.readouterr().out.count("⟦<think>") == 1
    assert not (tmp_path / "sft" / "checkpoints").exists()


def test_cudnn_attention_is_not_used(tiny: Path, policy: Policy, tmp_path: Path) -> None:
    """Its backward pass can return NaN where there is padding."""
    torch.backends.cuda.enable_cudnn_sdp(True)
    train(recipe(tiny, tmp_path), [example("Question?")], policy, tmp_path / "sft")
    assert not torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]


def test_the_weight_of_the_finding_reaches_the_loss(tiny: Path, policy: Policy, tmp_path: Path) -> None:
    """A random model loses the same on every token, so that the loss grows by weight over length."""
    thinking = written_thinking("Question?", Ruling.REFUSE, policy.clauses["VI4"])
    rows = [example("Question?").model_copy(update={"thinking": thinking})] * 2
    made = recipe(tiny, tmp_path, max_steps=5, learning_rate=1e-9, finding_weight=50.0)
    train(made, rows, policy, tmp_path / "sft")
    tokenizer = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(tiny)
    row = encode(rows[0], tokenizer, 1024)
    assert row is not None
    learnt = sum(label != IGNORED for label in row.labels)
    (entry,) = json.loads((tmp_path / "sft" / "log.json").read_text())
    assert entry["loss"] == pytest.approx(FIRST_LOSS * (learnt + 49) / learnt, rel=0.02)


def test_a_training_whose_weights_are_lost_stops_with_an_error(
    tiny: Path, policy: Policy, tmp_path: Path
) -> None:
    """The trainer itself would report a loss of zero and save the model."""
    made = recipe(tiny, tmp_path, max_steps=5, learning_rate=1e38)
    with pytest.raises(DataError, match=r"step 5: .*not a number"):
        train(made, [example(f"Question {n}?") for n in range(6)], policy, tmp_path / "sft")
    assert not (tmp_path / "sft" / "model").exists()


def test_full_fine_tuning_leaves_a_checkpoint(tiny: Path, policy: Policy, tmp_path: Path) -> None:
    """Without a LoRA table, all weights are trained, and the loss falls."""
    made = recipe(tiny, tmp_path, lora=None, max_steps=10, learning_rate=1e-2)
    facts = train(made, [example("Question?")] * 4, policy, tmp_path / "sft")
    assert (tmp_path / "sft" / "model" / "model.safetensors").exists()
    assert float(facts["loss"][0]) < 10


def test_layers_below_the_first_adapted_one_keep_the_weights_of_the_base(
    tiny: Path, policy: Policy, tmp_path: Path
) -> None:
    """The adapter has tensors for the upper layers alone."""
    made = recipe(tiny, tmp_path, lora={"rank": 2, "first_layer": 1}, max_steps=1)
    train(made, [example("Question?")] * 2, policy, tmp_path / "sft")
    with safe_open(tmp_path / "sft" / "model" / "adapter_model.safetensors", "pt") as tensors:
        names = " ".join(tensors.keys())
    assert set(re.findall(r"layers\.(\d+)\.", names)) == {"1"}


@pytest.mark.slow
def test_half_written_checkpoints_are_not_resumed(tmp_path: Path) -> None:
    """The newest whole one counts."""
    for name in ("checkpoint-5", "checkpoint-20", "checkpoint-30"):
        (tmp_path / name).mkdir()
        if name != "checkpoint-30":
            (tmp_path / name / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-20"
    assert last_checkpoint(tmp_path / "none") is None


def test_checkpoints_of_another_training_are_not_continued(tmp_path: Path, capsys: Any) -> None:
    """What the training depends on names their folder, and others that lie there are said."""
    own = own_checkpoints(tmp_path, ["student", 1])
    write_json(own / "checkpoint-2" / "trainer_state.json", {})
    assert last_checkpoint(own_checkpoints(tmp_path, ["student", 1])) == own / "checkpoint-2"
    assert "not continued" not in capsys.readouterr().out
    assert last_checkpoint(own_checkpoints(tmp_path, ["student", 2])) is None
    assert "not continued" in capsys.readouterr().out


def _killed(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


@pytest.mark.parametrize("other", ["rows", "recipe", "seed", "nothing"])
def test_a_training_goes_on_only_with_the_same_recipe_seed_and_rows(
    tiny: Path, policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """It was killed, and is run again with one of them changed."""
    rows = [example(f"Question {n}?") for n in range(6)]
    first = recipe(tiny, tmp_path, save_steps=2)
    with monkeypatch.context() as patch:
        patch.setattr("training.sft.write_json", _killed)
        with pytest.raises(KeyboardInterrupt):
            train(first, rows, policy, tmp_path / "sft")
    again = {
        "rows": (first, rows[1:]),
        "recipe": (recipe(tiny, tmp_path, save_steps=2, learning_rate=1e-4), rows),
        "seed": (first.model_copy(update={"seed": 1}), rows),
        "nothing": (first, rows),
    }
    facts = train(*again[other], policy, tmp_path / "sft")
    assert facts["resumed"] is (other == "nothing")
    assert not (tmp_path / "sft" / "checkpoints").exists()


def test_rows_that_are_all_too_long_are_an_error(tiny: Path, policy: Policy, tmp_path: Path) -> None:
    """It names the limit."""
    with pytest.raises(DataError, match=r"all 1 rows are longer than sft.max_length, 8 tokens"):
        train(recipe(tiny, tmp_path, max_length=8), [example("Question?")], policy, tmp_path / "sft")


@pytest.mark.slow
def test_kill_9_in_the_middle_goes_on_from_the_last_checkpoint(tiny: Path, tmp_path: Path) -> None:
    """The second run does not begin again."""
    run = tmp_path / "run"
    write_rows(run / "examples.jsonl", [example(f"Question {n}?") for n in range(8)])
    path = tmp_path / "recipe.toml"
    path.write_text(
        f'name = "tiny"\nrun_dir = "{run}"\nstudent = "{tiny}"\n'
        "[sft]\nbf16 = false\nbatch = 2\nmax_steps = 40\nsave_steps = 2\n[sft.lora]\nrank = 2\n"
    )
    command = [sys.executable, "-m", "training", "sft", str(path)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while (
        not list(run.glob("sft/checkpoints/*/checkpoint-*/trainer_state.json"))
        and time.monotonic() < deadline
    ):
        time.sleep(0.1)
    child.send_signal(signal.SIGKILL)
    child.wait()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    manifest = json.loads((run / "manifests" / "sft.json").read_text())
    assert manifest["resumed"] is True


def test_batches_are_of_like_length_and_in_mixed_order() -> None:
    """No row is lost, each batch is about as long throughout, and lengths do not run in one direction."""
    rows = [Encoded([0] * (n * 7 % 97 + 1), [0], [1.0]) for n in range(203)]
    made = in_batches_of_like_length(rows, 8, seed=1)
    assert sorted(len(row.input_ids) for row in made) == sorted(len(row.input_ids) for row in rows)
    batches = [[len(row.input_ids) for row in made[at : at + 8]] for at in range(0, 192, 8)]
    assert max(max(batch) - min(batch) for batch in batches) < 60  # 90 where they are not sorted
    middles = [sum(batch) / 8 for batch in batches]
    ups = sum(a < b for a, b in pairwise(middles))
    assert 6 <= ups <= 17
