"""Stage ``sft``: the student learns to deliberate without the spec.

Reads ``examples.jsonl``, writes ``sft/`` (an adapter, or a whole checkpoint) and ``sft/log.json``.
The prompt is what the client sends and nothing else; the loss covers the thinking, the answer and the
token that ends the turn, which is checked on every row and printed for the first. Rows without an
answer teach the thinking alone. What is trained stays in fp32 under bf16 autocast. A run that was killed
goes on from its last checkpoint, unless recipe, seed, student or rows are others now.

Left out: packing (needs kernels that CPUs lack) and evaluation during training (the evaluate stage).
"""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from guard.policy.model import Policy, digest
from training.attention import avoid_cudnn_attention
from training.capability import capability_rows
from training.compact import IGNORED, use_compact_head
from training.deliberate import completion_text, decision_in
from training.errors import DataError
from training.files import write_json
from training.recipe import Recipe, Sft
from training.records import Example
from training.token_weights import WeightedCollator, use_token_weights


class Encoded(NamedTuple):
    """One row as the trainer takes it."""

    input_ids: list[int]
    labels: list[int]
    """The token ids where the loss counts, ``IGNORED`` elsewhere."""
    weights: list[float]
    """What each token counts in the loss."""


def encode(
    example: Example,
    tokenizer: Any,
    max_length: int,
    *,
    finding_weight: float = 1.0,
    clause_weight: float = 1.0,
) -> Encoded | None:
    """Tokenize one row; None where it is longer than ``max_length``.

    Args:
        example: The row.
        tokenizer: The student's.
        max_length: In tokens.
        finding_weight: Weight of the token in which a written thinking says its finding.
        clause_weight: Weight of the tokens of the clause's words after it.

    Raises:
        DataError: The loss would not cover exactly the completion, or the prompt holds the policy.
    """
    messages = [message.model_dump() for message in example.messages]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    if "<policy>" in prompt:
        raise DataError(f"example {example.id}: the prompt holds policy text, which must be stripped for SFT")
    completion = completion_text(example.thinking, example.answer)
    prompt_ids: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    tokenized = tokenizer(completion, add_special_tokens=False, return_offsets_mapping=True)
    completion_ids: list[int] = tokenized["input_ids"]
    if example.answer:
        completion_ids = [*completion_ids, tokenizer.eos_token_id]
    ids = prompt_ids + completion_ids
    labels = [IGNORED] * len(prompt_ids) + completion_ids
    learnt = tokenizer.decode([label for label in labels if label != IGNORED], skip_special_tokens=True)
    if learnt.strip() != completion.strip():
        raise DataError(f"example {example.id}: the loss covers {learnt!r} instead of {completion!r}")
    weights = [1.0] * len(ids)
    decision = decision_in(completion, example.ruling)
    for place, (start, end) in enumerate(tokenized["offset_mapping"], start=len(prompt_ids)):
        if decision is not None and start <= decision.finding < end:
            weights[place] = finding_weight
        elif decision is not None and end - 1 in decision.clause:  # a token begins with the space before it
            weights[place] = clause_weight
    return Encoded(ids, labels, weights) if len(ids) <= max_length else None


def rows_to_train(recipe: Recipe, examples: Sequence[Example]) -> list[Example]:
    """Training rows in seeded order: the filtered ones, repeated by source, and the capability mix.

    Raises:
        DataError: There are none.
    """
    rows: list[Example] = []
    for example in examples:
        if example.split == "train":
            rows.extend([example] * recipe.sft.repeat.get(example.source, 1))
    if not rows:
        raise DataError("no training rows; what did the filter drop?")
    if recipe.sft.capability is not None:
        rows.extend(capability_rows(recipe.sft.capability, recipe.data_dir))
    random.Random(recipe.seed).shuffle(rows)
    return rows


def train(recipe: Recipe, examples: Sequence[Example], policy: Policy, out: Path) -> dict[str, Any]:
    """Fine-tune the student; the facts for the manifest.

    Args:
        recipe: The run.
        examples: Filtered rows.
        policy: Whose text no prompt may hold.
        out: Where the adapter or checkpoint goes.

    Raises:
        DataError: The model cannot be loaded, a row is not fit to train on, or all are too long.
    """
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    settings = recipe.sft
    avoid_cudnn_attention()
    set_seed(recipe.seed)
    try:
        tokenizer = AutoTokenizer.from_pretrained(recipe.student)
        frozen = settings.lora is not None and settings.bf16
        model: Any = AutoModelForCausalLM.from_pretrained(
            recipe.student, dtype=torch.bfloat16 if frozen else torch.float32
        )
    except (OSError, ValueError) as error:
        raise DataError(f"student {recipe.student!r} cannot be loaded: {error}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    rows = rows_to_train(recipe, examples)
    forbid_policy(rows, policy)
    made = (
        encode(
            row,
            tokenizer,
            settings.max_length,
            finding_weight=settings.finding_weight,
            clause_weight=settings.clause_weight,
        )
        for row in rows
    )
    encoded = [row for row in made if row is not None]
    if not encoded:
        raise DataError(f"all {len(rows)} rows are longer than sft.max_length, {settings.max_length} tokens")
    show_mask(encoded[0], tokenizer)
    encoded = in_batches_of_like_length(encoded, settings.batch, recipe.seed)
    columns = [row._asdict() for row in encoded]
    dataset = Dataset.from_list(columns)
    checkpoints = own_checkpoints(
        out, [recipe.student, recipe.seed, settings.model_dump(mode="json"), columns]
    )
    arguments = SFTConfig(
        output_dir=str(checkpoints),
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.batch,
        gradient_accumulation_steps=settings.accumulation,
        warmup_steps=settings.warmup_share,
        lr_scheduler_type=settings.scheduler,
        weight_decay=settings.weight_decay,
        max_length=settings.max_length,
        bf16=settings.bf16,
        gradient_checkpointing=False,
        train_sampling_strategy="sequential",
        logging_steps=5,
        save_steps=settings.save_steps,
        save_total_limit=2,
        logging_nan_inf_filter=False,
        seed=recipe.seed,
        report_to=[],
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
    )
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        data_collator=WeightedCollator(tokenizer.pad_token_id),
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=new_adapter(settings),
    )
    use_compact_head(trainer.model)
    use_token_weights(trainer.model)
    history, resumed = train_to_end(trainer, tokenizer, out, checkpoints, figure="loss")
    return {
        "rows": len(encoded),
        "too_long": len(rows) - len(encoded),
        "tokens_per_epoch": sum(len(e.input_ids) for e in encoded),
        "steps": trainer.state.global_step,
        "loss": [entry["loss"] for entry in history][-1:] or None,
        "resumed": resumed,
        "trained": "lora" if settings.lora else "full",
        "sections": {section.id: section.digest for section in policy.sections},
    }


BATCHES_SORTED_TOGETHER = 8


def in_batches_of_like_length(rows: Sequence[Encoded], batch: int, seed: int) -> list[Encoded]:
    """Rows in an order in which those of a batch are about as long, and batches of all lengths alternate.

    The trainer's own grouping sorts fifty batches at a time, longest first. Here length tells rulings apart
    (rows without an answer are short and comply), so that it would train on one ruling for many steps.
    """
    size = batch * BATCHES_SORTED_TOGETHER
    ordered: list[list[Encoded]] = []
    for start in range(0, len(rows), size):
        alike = sorted(rows[start : start + size], key=lambda row: len(row.input_ids))
        ordered += [alike[at : at + batch] for at in range(0, len(alike), batch)]
    whole = [chunk for chunk in ordered if len(chunk) == batch]
    rest = [row for chunk in ordered if len(chunk) < batch for row in chunk]
    random.Random(seed).shuffle(whole)
    return [row for chunk in whole for row in chunk] + rest


def train_to_end(
    trainer: Any, tokenizer: Any, out: Path, checkpoints: Path, *, figure: str
) -> tuple[list[dict[str, Any]], bool]:
    """Run a TRL trainer from its last whole checkpoint to its end, and keep model, tokenizer and log.

    Args:
        trainer: Any trainer of transformers.
        tokenizer: Saved beside the model.
        out: Gets ``model`` and ``log.json``.
        checkpoints: Where the trainer keeps its checkpoints, by :func:`own_checkpoints`; at the end they are
            removed, with all that others left beside them.
        figure: What an entry of the log must hold to be kept.

    Returns:
        The kept log entries, and whether an earlier run was gone on with.

    Raises:
        DataError: The loss or its gradient is no longer a number; no model is kept.
    """
    trainer.add_callback(_finite_or_stop())
    last = last_checkpoint(checkpoints)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    trainer.save_model(str(out / "model"))
    history = [entry for entry in trainer.state.log_history if figure in entry]
    if trainer.is_world_process_zero():
        tokenizer.save_pretrained(out / "model")
        write_json(out / "log.json", history)
        shutil.rmtree(checkpoints.parent, ignore_errors=True)
    return history, last is not None


def _finite_or_stop() -> Any:
    """What stops a training whose weights are lost; transformers shows such a loss as zero and goes on."""
    from transformers import TrainerCallback

    class FiniteOrStop(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            lost = [name for name in ("loss", "grad_norm") if not math.isfinite((logs or {}).get(name, 0.0))]
            if lost:
                raise DataError(
                    f"step {state.global_step}: {' and '.join(lost)} not a number, so nothing is kept. "
                    f"Remove {args.output_dir}; try a lower learning_rate, or bf16 = false"
                )

    return FiniteOrStop()


def own_checkpoints(out: Path, depends: Sequence[object]) -> Path:
    """The folder for the checkpoints of one training, named by the digest of all that it depends on.

    So one that was killed is never continued with another recipe, seed, student or other rows; where there
    are checkpoints of another training, that is printed.
    """
    own = out / "checkpoints" / digest(depends)[:12]
    others = [path.parents[1] for path in own.parent.rglob("checkpoint-*/trainer_state.json")]
    if any(folder != own for folder in others):
        print(f"{own.parent}: checkpoints of another recipe, seed, student or other rows are not continued")
    return own


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written whole; a kill may leave half of one behind."""
    whole = (path.parent for path in folder.glob("checkpoint-*/trainer_state.json"))
    return max(whole, key=lambda path: int(path.name.partition("-")[2]), default=None)


def new_adapter(settings: Sft) -> Any:
    """The configuration of an adapter of the recipe's shape; None where the fine-tuning is full."""
    from peft import LoraConfig

    lora = settings.lora
    if lora is None:
        return None
    kept = "|".join(map(str, range(lora.first_layer)))
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        exclude_modules=rf".*\.layers\.({kept})\..*" if kept else None,
        task_type="CAUSAL_LM",
    )


def forbid_policy(rows: Sequence[Example], policy: Policy) -> None:
    """Check that no prompt carries the spec.

    Raises:
        DataError: A prompt holds a clause of the policy word for word.
    """
    clauses = [clause.text for clause in policy.clauses.values()]
    for row in rows:
        text = "\n".join(message.content for message in row.messages)
        held = next((clause for clause in clauses if clause in text), None)
        if held is not None:
            raise DataError(f"example {row.id}: its prompt holds the policy text {held!r}")


def show_mask(row: Encoded, tokenizer: Any) -> None:
    """Print one row, the part that the loss covers in brackets."""
    at = next(i for i, label in enumerate(row.labels) if label != IGNORED)
    print(f"{tokenizer.decode(row.input_ids[:at])}⟦{tokenizer.decode(row.input_ids[at:])}⟧")
